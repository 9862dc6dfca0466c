//! The address of a source on the network. Its password is never shown.

use std::fmt;
use std::str::FromStr;

use daemon::config::{mask_passwords, mask_url};

/// Keys of a query that say how samples are coded. The values of other keys may be secrets.
pub(super) const FORMAT_KEYS: [&str; 3] = ["rate", "format", "channels"];

/// How the sound travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// `rtsp://`: a camera. Its sound comes over the same connection (TCP), or over UDP if it wants that.
    Rtsp,
    /// `rtsp+udp://`: a camera whose sound is to come over UDP.
    RtspUdp,
    /// `http://` or `https://`: a stream of a recorder or a radio.
    Http,
}

const SCHEMES: [(&str, Scheme); 4] = [
    ("rtsp://", Scheme::Rtsp),
    ("rtsp+udp://", Scheme::RtspUdp),
    ("http://", Scheme::Http),
    ("https://", Scheme::Http),
];

/// A URL of the form `rtsp://USER:PASSWORD@CAMERA/PATH` or `http://HOST/PATH`. Wherever it is shown, `***` stands for
/// the password and for the values of a query that may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamUrl {
    text: String,
    scheme: Scheme,
}

impl StreamUrl {
    /// Whether a text begins like the URL of a stream.
    pub(super) fn is_meant(text: &str) -> bool {
        SCHEMES.iter().any(|(prefix, _)| text.starts_with(prefix))
    }

    /// The kind of source, as on the wire.
    pub(super) fn kind(&self) -> &'static str {
        match self.scheme {
            Scheme::Rtsp | Scheme::RtspUdp => "rtsp",
            Scheme::Http => "http",
        }
    }

    /// How the sound travels.
    #[cfg(feature = "network-sources")]
    pub(super) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The URL with its password, for the code that connects to it. Of `rtsp+udp` only `rtsp` is left.
    #[cfg(feature = "network-sources")]
    pub(super) fn expose(&self) -> String {
        self.text.replacen("rtsp+udp://", "rtsp://", 1)
    }

    /// The URL without user, password and query: what tells sources apart.
    #[cfg(feature = "network-sources")]
    pub(super) fn place(&self) -> String {
        let (scheme, rest) = self.text.split_once("://").unwrap_or(("", &self.text));
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("{scheme}://{host}{path}")
    }
}

impl FromStr for StreamUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown = mask_url(text);
        let known = SCHEMES.iter().find(|(prefix, _)| text.starts_with(prefix));
        let Some((_, scheme)) = known else { return Err(format!("\"{shown}\" is not the URL of a stream")) };
        let uri = daemon::url::parse(text)?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(format!("\"{shown}\" names no host"));
        }
        Ok(Self { text: text.to_owned(), scheme: *scheme })
    }
}

impl fmt::Display for StreamUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masked = mask_passwords(&self.text);
        let Some((place, query)) = masked.split_once('?') else { return out.write_str(&masked) };
        let parts: Vec<String> = query
            .split('&')
            .map(|part| match part.split_once('=') {
                Some((key, _)) if !FORMAT_KEYS.contains(&key) => format!("{key}=***"),
                Some(_) => part.to_owned(),
                // A query without a key may be a token.
                None => "***".to_owned(),
            })
            .collect();
        write!(out, "{place}?{}", parts.join("&"))
    }
}

impl fmt::Debug for StreamUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_tokens_are_never_shown() {
        for (text, shown) in [
            ("rtsp://anna:p%40ss@camera/stream1", "rtsp://anna:***@camera/stream1"),
            ("rtsp+udp://anna:pass@camera:8554/a", "rtsp+udp://anna:***@camera:8554/a"),
            ("rtsp://camera/live?user=anna&password=pass", "rtsp://camera/live?user=***&password=***"),
            (
                "http://mic.local/audio?rate=16000&format=s16&token=pass",
                "http://mic.local/audio?rate=16000&format=s16&token=***",
            ),
            ("https://radio.example/cat.mp3?pass", "https://radio.example/cat.mp3?***"),
        ] {
            let url: StreamUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
        }
    }

    #[test]
    fn what_is_no_url_of_a_stream_is_refused_without_its_password() {
        for text in ["rtsp://", "rtsp://anna:pa ss@camera", "http://camera:99999/", "ftp://anna:pass@camera/x"] {
            let error = text.parse::<StreamUrl>().unwrap_err();
            assert!(!error.contains("pass") && !error.contains("pa ss"), "{error}");
        }
    }

    #[cfg(feature = "network-sources")]
    #[test]
    fn place_has_neither_user_nor_query() {
        let url: StreamUrl = "rtsp+udp://anna:p%40ss@camera:8554/a/b?c=d".parse().unwrap();
        assert_eq!(url.place(), "rtsp+udp://camera:8554/a/b");
        assert_eq!(url.expose(), "rtsp://anna:p%40ss@camera:8554/a/b?c=d");
    }
}
