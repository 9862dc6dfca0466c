//! URLs of the config. Their passwords are never shown.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::Uri;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::{mask_passwords, mask_url};

/// A URL of the form `http://HOST:PORT`. Wherever it is shown, serialised too, `***` stands for a password in it.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpUrl(String);

impl HttpUrl {
    /// A port of this machine.
    pub fn localhost(port: u16) -> Self {
        Self(format!("http://localhost:{port}"))
    }

    /// The URL with its password, for the code that connects to it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri = parse(text)?;
        match uri.scheme_str() {
            Some("http") if uri.host().is_some_and(|host| !host.is_empty()) => Ok(Self(text.into())),
            Some("https") => {
                let plain = text.replacen("https", "http", 1);
                let (text, plain) = (mask_url(text), mask_url(&plain));
                Err(format!("\"{text}\": https is not supported; did you mean \"{plain}\"?"))
            }
            _ => {
                let hint = with_scheme(text);
                Err(format!("\"{}\" is not a URL of the form http://HOST:PORT{hint}", mask_url(text)))
            }
        }
    }
}

/// The hint for a host and port without a scheme.
fn with_scheme(text: &str) -> String {
    let full = format!("http://{text}");
    let fits = full.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    if text.contains("://") || !fits { String::new() } else { format!("; did you mean \"{}\"?", mask_url(&full)) }
}

impl TryFrom<String> for HttpUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&mask_passwords(&self.0))
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", mask_passwords(&self.0))
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for HttpUrl {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HttpUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// What to do about a password that ends the host of a URL.
const ENCODE: &str = "in a password, write / as %2F, ? as %3F, # as %23, : as %3A and @ as %40";

/// Parses a URL of any scheme. A port in it must be one that exists.
///
/// # Errors
/// What is wrong with the URL, which is quoted without its password.
pub fn parse(text: &str) -> Result<Uri, String> {
    let shown = mask_url(text);
    let uri: Uri = text.parse().map_err(|why| format!("\"{shown}\" is not a URL: {why}"))?;
    let port = uri.authority().and_then(|authority| {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        // The colons of an address of IPv6 are within brackets.
        let after_host = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
        after_host.split_once(':').map(|(_, port)| port)
    });
    match port {
        Some(port) if !port.parse::<u16>().is_ok_and(|port| port > 0) => {
            if !shown.contains(port) {
                // What looks like a port is the beginning of a password.
                return Err(format!("\"{shown}\": {ENCODE}"));
            }
            Err(format!("\"{shown}\": the port {port:?} is not between 1 and 65535"))
        }
        _ => Ok(uri),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_that_is_almost_right_is_suggested() {
        let why = |text: &str| text.parse::<HttpUrl>().unwrap_err();
        assert!(why("kitchen:50056").ends_with("; did you mean \"http://kitchen:50056\"?"), "{}", why("kitchen:50056"));
        assert!(why("10.0.0.7:50056").ends_with("; did you mean \"http://10.0.0.7:50056\"?"));
        assert!(why("https://kitchen:1").ends_with("; did you mean \"http://kitchen:1\"?"));
        assert!(why("ftp://kitchen").ends_with("http://HOST:PORT"));
    }

    #[test]
    fn password_is_in_the_exposed_url_alone() {
        let url: HttpUrl = "http://anna:98765@host:50056/a".parse().unwrap();
        assert_eq!(url.expose(), "http://anna:98765@host:50056/a");
        for shown in [url.to_string(), format!("{url:?}"), serde_json::to_string(&url).unwrap()] {
            assert!(shown.contains("http://anna:***@host:50056/a"), "{shown}");
        }
        for bad in ["ftp://anna:98765@host", "http://anna:98765@host:99999", "http://anna:98765@ host"] {
            let error = bad.parse::<HttpUrl>().unwrap_err();
            assert!(error.contains("anna:***@") && !error.contains("98765"), "{error}");
        }
    }

    #[test]
    fn ports_exist() {
        for good in ["http://a", "http://a:1/", "http://[::1]:65535", "http://[::1]", "mqtt://u:70000@a:1883"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["http://a:99999", "http://[::1]:0", "mqtt://a:70000", "http://u:1@a:65536/b", "http://a:"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn password_that_is_not_encoded_is_not_shown() {
        let why = parse("mqtt://anna:pst/98765@broker").unwrap_err();
        assert!(why.starts_with("\"mqtt://anna:***@broker\": in a password, write / as %2F"), "{why}");
        for bad in
            ["http://anna:98/76 5@host", "http://anna:@:98765#@host", "anna:98765@host", "ftp://anna:98/765@host"]
        {
            let why = bad.parse::<HttpUrl>().unwrap_err();
            assert!(!why.contains("76"), "{why}");
        }
    }
}

#[cfg(test)]
mod fuzz {
    use fuzzing::{hold, nearly_text};
    use proptest::prelude::*;

    use super::*;

    const SEEDS: [&str; 5] =
        ["http://kitchen:50056", "http://anna:pw@[::1]:1/a?b#c", "https://h", "mqtt://u@b:1883", "kitchen:50056"];

    #[test]
    fn text_is_a_url_that_can_be_dialled_or_an_error_that_quotes_it() {
        let words = ["://", "@", ":", "[", "]", "/", "65536", "%", "http"];
        hold(3_000, &nearly_text(&SEEDS, &words), |text| {
            match text.parse::<HttpUrl>() {
                Ok(url) => {
                    prop_assert_eq!(url.expose(), &text);
                    let uri: Uri = text.parse().unwrap();
                    prop_assert!(uri.host().is_some_and(|host| !host.is_empty()) && uri.port_u16() != Some(0));
                }
                Err(why) => prop_assert!(why.contains(mask_url(&text).as_ref()), "{why}"),
            }
            Ok(())
        });
    }

    #[test]
    fn error_never_shows_a_password() {
        let scheme = prop::sample::select(vec!["http://", "https://", "mqtt://", "ftp://", "", "http:/"]);
        let rest = prop::sample::select(vec!["host", "host:0", "host:99999", "[::1]:1", "", " host", "host:1/a"]);
        // Letters that neither the rest nor a message has, with all that may stand between them.
        let password = "[ -~]{0,8}QZQ[ -~]{0,8}";
        hold(3_000, &(scheme, password, rest), |(scheme, password, rest)| {
            if scheme.is_empty() && password.starts_with("//") {
                // The user is a scheme.
                return Ok(());
            }
            let text = format!("{scheme}anna:{password}@{rest}");
            for why in [parse(&text).err(), text.parse::<HttpUrl>().err()].into_iter().flatten() {
                prop_assert!(!why.contains("QZQ"), "{why}");
            }
            // A URL that can be used is shown without what stands before its host.
            if let Ok(url) = text.parse::<HttpUrl>() {
                let uri: Uri = url.expose().parse().unwrap();
                let login =
                    uri.authority().and_then(|all| all.as_str().rsplit_once('@')).map_or("", |(login, _)| login);
                prop_assert!(!login.contains("QZQ") || !url.to_string().contains("QZQ"), "{url}");
            }
            Ok(())
        });
    }
}
