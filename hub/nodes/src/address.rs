//! Addresses of cat-nodes, as the config writes them.

use std::str::FromStr;

use daemon::config::mask_url;
use daemon::url::HttpUrl;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// A cat-node of the config: `NAME=URL`, or `URL` alone for a node that knows the name of its cat.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct NodeConfig {
    /// The cat that it hears. `None`: the hub asks the node.
    pub cat: Option<String>,
    /// Its address.
    pub url: HttpUrl,
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
            return Err(format!("{:?} has no name before the '='; write NAME=URL", mask_url(text)));
        }
        Ok(Self { cat: cat.map(Into::into), url: url.parse()? })
    }
}

impl Serialize for NodeConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.cat {
            Some(cat) => serializer.collect_str(&format_args!("{cat}={}", self.url)),
            None => self.url.serialize(serializer),
        }
    }
}

impl TryFrom<String> for NodeConfig {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_has_a_name_or_is_asked_for_it() {
        let node: NodeConfig = "Tom=http://10.0.0.7:50056".parse().unwrap();
        assert_eq!((node.cat.as_deref(), node.url.expose()), (Some("Tom"), "http://10.0.0.7:50056"));
        let node: NodeConfig = "http://10.0.0.7:50056/?a=b".parse().unwrap();
        assert_eq!(node.cat, None);
        let node: NodeConfig = "a=b=http://10.0.0.7:50056/?c=d".parse().unwrap();
        assert_eq!((node.cat.as_deref(), node.url.expose()), (Some("a=b"), "http://10.0.0.7:50056/?c=d"));
        for bad in [
            "Tom",
            "=http://a:1",
            "Tom=",
            "Tom=a:1",
            "Tom=ftp://a:1",
            "Tom=http://",
            "Tom=http:// a",
            "Tom=http://a:99999",
        ] {
            assert!(bad.parse::<NodeConfig>().is_err(), "{bad}");
        }
    }
}
