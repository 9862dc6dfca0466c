//! Addresses of cat-nodes and of other roles, as the config writes them.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A cat-node of the config: `NAME=URL`, or `URL` alone for a node that knows the name of its cat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct NodeConfig {
    /// The cat that it hears. `None`: the hub asks the node.
    pub cat: Option<String>,
    /// Its address.
    pub url: String,
}

impl FromStr for NodeConfig {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // Both the name and what follows the host may contain '='.
        let (cat, url) = match text.find("://").and_then(|scheme| text[..scheme].rfind('=')) {
            Some(sign) => (Some(&text[..sign]), &text[sign + 1..]),
            None => (None, text),
        };
        if cat == Some("") {
            return Err(format!("{text:?} has no name before the '='; write NAME=URL"));
        }
        check_url(url)?;
        Ok(Self { cat: cat.map(Into::into), url: url.into() })
    }
}

impl From<NodeConfig> for String {
    fn from(node: NodeConfig) -> Self {
        match node.cat {
            Some(cat) => format!("{cat}={}", node.url),
            None => node.url,
        }
    }
}

impl TryFrom<String> for NodeConfig {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The address of another role: `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Url(pub String);

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check_url(text)?;
        Ok(Self(text.into()))
    }
}

impl From<Url> for String {
    fn from(url: Url) -> Self {
        url.0
    }
}

impl TryFrom<String> for Url {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

fn check_url(url: &str) -> Result<(), String> {
    let parsed: http::Uri = url.parse().map_err(|why| format!("{url:?} is not a URL: {why}"))?;
    match parsed.scheme_str() {
        Some("http") if parsed.host().is_some_and(|host| !host.is_empty()) => Ok(()),
        Some("https") => {
            Err(format!("{url:?}: https is not supported; did you mean {:?}?", url.replacen("https", "http", 1)))
        }
        _ => Err(format!("{url:?} is not a URL of the form http://HOST:PORT{}", with_scheme(url))),
    }
}

/// The hint for a host and port without a scheme.
fn with_scheme(url: &str) -> String {
    let fits = |url: &str| url.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    let full = format!("http://{url}");
    if !url.contains("://") && fits(&full) { format!("; did you mean {full:?}?") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_has_a_name_or_is_asked_for_it() {
        let node: NodeConfig = "Tom=http://10.0.0.7:50056".parse().unwrap();
        assert_eq!((node.cat.as_deref(), node.url.as_str()), (Some("Tom"), "http://10.0.0.7:50056"));
        let node: NodeConfig = "http://10.0.0.7:50056/?a=b".parse().unwrap();
        assert_eq!(node.cat, None);
        let node: NodeConfig = "a=b=http://10.0.0.7:50056/?c=d".parse().unwrap();
        assert_eq!((node.cat.as_deref(), node.url.as_str()), (Some("a=b"), "http://10.0.0.7:50056/?c=d"));
        for bad in ["Tom", "=http://a:1", "Tom=", "Tom=a:1", "Tom=ftp://a:1", "Tom=http://", "Tom=http:// a"] {
            assert!(bad.parse::<NodeConfig>().is_err(), "{bad}");
        }
    }

    #[test]
    fn url_that_is_almost_right_is_suggested() {
        let why = |text: &str| text.parse::<Url>().unwrap_err();
        assert!(why("kitchen:50056").ends_with("; did you mean \"http://kitchen:50056\"?"), "{}", why("kitchen:50056"));
        assert!(why("10.0.0.7:50056").ends_with("; did you mean \"http://10.0.0.7:50056\"?"));
        assert!(why("https://kitchen:1").ends_with("; did you mean \"http://kitchen:1\"?"));
        assert!(why("ftp://kitchen").ends_with("http://HOST:PORT"));
    }
}
