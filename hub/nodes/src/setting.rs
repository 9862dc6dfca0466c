//! The setting `discover`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether the hub looks for nodes on the local network, and which of them it listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discover {
    /// It does not look for nodes: `false`.
    Off,
    /// Nodes that it finds wait until a person admits them: `true`.
    On,
    /// It listens to every node that it finds: `"admit-all"`.
    AdmitAll,
}

/// The word for [`Discover::AdmitAll`].
const ADMIT_ALL: &str = "admit-all";

/// What a value must be, for messages.
const EXPECTED: &str = "true, false or \"admit-all\"";

impl Discover {
    /// Whether the hub looks for nodes.
    pub fn is_on(self) -> bool {
        self != Self::Off
    }
}

impl FromStr for Discover {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "true" => Ok(Self::On),
            "false" => Ok(Self::Off),
            ADMIT_ALL => Ok(Self::AdmitAll),
            other => Err(format!("{other:?} is not {EXPECTED}")),
        }
    }
}

impl Serialize for Discover {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_bool(false),
            Self::On => serializer.serialize_bool(true),
            Self::AdmitAll => serializer.serialize_str(ADMIT_ALL),
        }
    }
}

impl<'de> Deserialize<'de> for Discover {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl Visitor<'_> for Reader {
            type Value = Discover;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(EXPECTED)
            }

            fn visit_bool<E: de::Error>(self, is_on: bool) -> Result<Discover, E> {
                Ok(if is_on { Discover::On } else { Discover::Off })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Discover, E> {
                match text {
                    ADMIT_ALL => Ok(Discover::AdmitAll),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

impl JsonSchema for Discover {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Discover".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "string"], "enum": [true, false, ADMIT_ALL] })
    }
}
