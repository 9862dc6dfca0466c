//! URLs of the config. Their passwords are never shown.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use http::Uri;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

use crate::config::mask_passwords;

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
                let (text, plain) = (mask_passwords(text), mask_passwords(&plain));
                Err(format!("\"{text}\": https is not supported; did you mean \"{plain}\"?"))
            }
            _ => {
                let hint = with_scheme(text);
                Err(format!("\"{}\" is not a URL of the form http://HOST:PORT{hint}", mask_passwords(text)))
            }
        }
    }
}

/// The hint for a host and port without a scheme.
fn with_scheme(text: &str) -> String {
    let full = format!("http://{text}");
    let fits = full.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    if text.contains("://") || !fits { String::new() } else { format!("; did you mean \"{}\"?", mask_passwords(&full)) }
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

/// Parses a URL of any scheme. A port in it must be one that exists.
///
/// # Errors
/// What is wrong with the URL, which is quoted without its password.
pub fn parse(text: &str) -> Result<Uri, String> {
    let shown = mask_passwords(text);
    let uri: Uri = text.parse().map_err(|why| format!("\"{shown}\" is not a URL: {why}"))?;
    let port = uri.authority().and_then(|authority| {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        // The colons of an address of IPv6 are within brackets.
        let after_host = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
        after_host.split_once(':').map(|(_, port)| port)
    });
    match port {
        Some(port) if !port.parse::<u16>().is_ok_and(|port| port > 0) => {
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
}
