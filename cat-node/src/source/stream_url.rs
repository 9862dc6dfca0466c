//! The address of a source on the network. Its password is never shown.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use daemon::config::{mask_passwords, mask_url};

/// Keys of a query that say how samples are coded. The values of other keys may be secrets.
pub(super) const FORMAT_KEYS: [&str; 3] = ["rate", "format", "channels"];

/// What stands for a secret.
const MASK: &str = "***";

/// Words in the names of secrets that cameras want in the path: `password=…`, `pwd=…`, `access_token=…`.
const SECRET_WORDS: [&str; 7] = ["pass", "pwd", "psw", "token", "auth", "key", "secret"];

/// What ends a part of a path: `/user=anna_password=secret_channel=1.sdp`.
const PATH_SEPARATORS: [char; 4] = ['/', '&', ';', '_'];

/// Where the values in a path are that may be secrets, in ascending order: those of keys that sound like one, and what
/// follows a colon (`/anna:secret/main`).
pub(super) fn path_secrets(path: &str) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let part = part_of(&path[at..]);
        let value = match part.split_once('=') {
            Some((key, value)) => {
                let key = key.to_ascii_lowercase();
                SECRET_WORDS.iter().any(|word| key.contains(word)).then_some(value)
            }
            None => part.split_once(':').map(|(_, value)| value),
        };
        let mut end = at + part.len();
        if let Some(value) = value {
            let begin = end - value.len();
            // A separator within a secret that ought to be percent-encoded: what follows it has no key.
            while let Some(rest) = path[end..].strip_prefix(['&', ';', '_']) {
                let next = part_of(rest);
                if next.contains('=') {
                    break;
                }
                end += 1 + next.len();
            }
            if begin < end {
                secrets.push(begin..end);
            }
        }
        at = end + 1;
    }
    secrets
}

/// The text up to the next separator of a path.
fn part_of(text: &str) -> &str {
    &text[..text.find(PATH_SEPARATORS).unwrap_or(text.len())]
}

/// A URL, or what ought to be one, without its secrets, those of path, query and fragment included.
pub(super) fn mask(text: &str) -> String {
    let text = mask_passwords(text);
    let (text, fragment) = text.split_once('#').map_or((&*text, None), |(text, rest)| (text, Some(rest)));
    let (place, query) = text.split_once('?').map_or((text, None), |(place, query)| (place, Some(query)));
    let mut shown = mask_path(place).into_owned();
    if let Some(query) = query {
        let parts: Vec<Cow<'_, str>> = query
            .split('&')
            .map(|part| match part.split_once('=') {
                Some((key, _)) if !FORMAT_KEYS.contains(&key) => format!("{key}={MASK}").into(),
                Some(_) => part.into(),
                // A query without a key may be a token.
                None => MASK.into(),
            })
            .collect();
        shown = format!("{shown}?{}", parts.join("&"));
    }
    match fragment {
        Some(_) => format!("{shown}#{MASK}"),
        None => shown,
    }
}

/// A URL without query and fragment, without the secrets of its path.
pub(super) fn mask_path(place: &str) -> Cow<'_, str> {
    let host = place.find("://").map_or(0, |scheme| scheme + 3);
    let Some(path) = place[host..].find('/').map(|path| host + path) else { return place.into() };
    let mut shown = place.to_owned();
    // From the end, so that the places of the others stay.
    for secret in path_secrets(&place[path..]).into_iter().rev() {
        shown.replace_range(path + secret.start..path + secret.end, MASK);
    }
    shown.into()
}

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
/// the password and for the values of a path or a query that may be secrets.
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

    /// The URL without user, password, query and the secrets of its path: what tells sources apart.
    #[cfg(feature = "network-sources")]
    pub(super) fn place(&self) -> String {
        let (scheme, rest) = self.text.split_once("://").unwrap_or(("", &self.text));
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        mask_path(&format!("{scheme}://{host}{path}")).into_owned()
    }
}

impl FromStr for StreamUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Of a text that is no URL, nothing tells where the password ends.
        let shown = mask(&mask_url(text));
        let known = SCHEMES.iter().find(|(prefix, _)| text.starts_with(prefix));
        let Some((prefix, scheme)) = known else { return Err(format!("\"{shown}\" is not the URL of a stream")) };
        // The beginning of a password was taken for the host.
        let rest = &text[prefix.len()..];
        let (host, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (path, fragment) = after.split_once('#').unwrap_or((after, ""));
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if [path, fragment].iter().any(|part| part.contains('@')) || path.is_empty() && query.contains('@') {
            let host = host.split([':', '@']).next().unwrap_or_default();
            return Err(format!(
                "\"{prefix}{host}***\" has an @ in its path; in a password, write / as %2F, ? as %3F, # as %23 and @ \
                 as %40; in a path, write @ as %40"
            ));
        }
        let uri = daemon::url::parse(text).map_err(|why| why.replace(mask_url(text).as_ref(), &shown))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(format!("\"{shown}\" names no host"));
        }
        Ok(Self { text: text.to_owned(), scheme: *scheme })
    }
}

impl fmt::Display for StreamUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&mask(&self.text))
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
            ("https://radio.example/cat.mp3#pass", "https://radio.example/cat.mp3#***"),
            (
                "rtsp://cam:554/user=admin&password=tlJwpbo6&channel=1&stream=0.sdp?real_stream",
                "rtsp://cam:554/user=admin&password=***&channel=1&stream=0.sdp?***",
            ),
            (
                "rtsp://cam/user=admin_password=pa_ss;_channel=1_stream=0.sdp",
                "rtsp://cam/user=admin_password=***_channel=1_stream=0.sdp",
            ),
            ("http://cam/pwd=pass/Auth=pass;x/AUTHKEY=pass", "http://cam/pwd=***/Auth=***/AUTHKEY=***"),
            ("http://cam/access_token=a=pass/live", "http://cam/access_token=***/live"),
            ("rtsp://cam/0/anna:pass/main", "rtsp://cam/0/anna:***/main"),
            ("rtsp://cam/password=/live_sub", "rtsp://cam/password=/live_sub"),
        ] {
            let url: StreamUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(format!("{url:?}"), shown);
        }
    }

    #[test]
    fn what_is_no_url_of_a_stream_is_refused_without_its_password() {
        for text in ["rtsp://", "rtsp://anna:pa ss@camera", "http://camera:99999/pwd=pass", "ftp://anna:pass@camera/x"]
        {
            let error = text.parse::<StreamUrl>().unwrap_err();
            assert!(!error.contains("pass") && !error.contains("pa ss"), "{error}");
        }
    }

    #[test]
    fn password_that_ought_to_be_encoded_is_refused_with_what_to_write() {
        for text in [
            "rtsp://anna:12/34@camera/x",
            "rtsp://anna:1234#5@camera/x",
            "rtsp://anna:12?34@camera/x",
            "rtsp://12/34@camera/x",
            "http://camera/user=anna&password=1234@x",
        ] {
            let error = text.parse::<StreamUrl>().unwrap_err();
            assert!(error.contains("write / as %2F") && error.contains("# as %23"), "{error}");
            assert!(!error.contains("12:") && !error.contains("34"), "{error}");
        }
        assert!("http://camera/audio?user=anna@example.org".parse::<StreamUrl>().is_ok());
    }

    #[cfg(feature = "network-sources")]
    #[test]
    fn place_has_neither_user_nor_query() {
        let url: StreamUrl = "rtsp+udp://anna:p%40ss@camera:8554/a/b?c=d".parse().unwrap();
        assert_eq!(url.place(), "rtsp+udp://camera:8554/a/b");
        let secret: StreamUrl = "rtsp://camera/user=anna&password=pass&channel=1".parse().unwrap();
        assert_eq!(secret.place(), "rtsp://camera/user=anna&password=***&channel=1");
        assert_eq!(url.expose(), "rtsp://anna:p%40ss@camera:8554/a/b?c=d");
    }
}
