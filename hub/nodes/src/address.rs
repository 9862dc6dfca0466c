//! Addresses of cat-nodes, as the config writes them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use daemon::config::mask_url;
use daemon::url::HttpUrl;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A cat-node of the config: `NAME=URL`, or `URL` alone for a node that knows the name of its cat, or the table
/// `[[node]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeConfig {
    /// The cat that it hears. `None`: the hub asks the node.
    pub cat: Option<String>,
    /// Its address.
    pub url: HttpUrl,
    /// Its events with a lower score, 0 to 1, are stored, but notify nobody and are not counted. `None`: all count.
    pub min_score: Option<f32>,
}

/// `[[node]]`: a node as a table.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NodeTable {
    /// Address of the node.
    url: HttpUrl,
    /// The cat that it hears. Without it, the hub asks the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    cat: Option<String>,
    /// Events of the node with a lower score, 0 to 1, are stored, but notify nobody and are not counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    min_score: Option<f32>,
}

/// Writes the nodes of a config as texts, or all of them as tables if one needs a table. A list of both could not be
/// written as `[[node]]`.
///
/// # Errors
/// Those of `serializer`.
pub fn serialize<S: Serializer>(nodes: &[NodeConfig], serializer: S) -> Result<S::Ok, S::Error> {
    if nodes.iter().all(|node| node.min_score.is_none()) {
        return serializer.collect_seq(nodes);
    }
    serializer.collect_seq(nodes.iter().cloned().map(|NodeConfig { cat, url, min_score }| NodeTable {
        url,
        cat,
        min_score,
    }))
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
        Ok(Self { cat: cat.map(Into::into), url: url.parse()?, min_score: None })
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

impl<'de> Deserialize<'de> for NodeConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = NodeConfig;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("\"URL\", \"NAME=URL\" or a table with the key url")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<NodeConfig, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NodeConfig, A::Error> {
                let NodeTable { url, cat, min_score } = NodeTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(NodeConfig { cat, url, min_score })
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for NodeConfig {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "NodeConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = NodeTable::json_schema(generator);
        schema.insert("type".into(), ["object", "string"].as_slice().into());
        schema
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
