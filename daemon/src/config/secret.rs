//! Values that must not be shown.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// Stands for a secret in what is shown.
pub(super) const MASK: &str = "***";

/// A text that must not be shown. It serialises to `***`, and so does its debug form.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the code that has to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "password", "writeOnly": true })
    }
}

/// Masks the passwords of the URLs in a text: `mqtt://anna:secret@broker` becomes `mqtt://anna:***@broker`.
pub fn mask_passwords(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("://").map(|scheme| scheme + 3) {
        let (before, after) = rest.split_at(start);
        masked.push_str(before);
        let end = after.find(|letter: char| "/?#\"'`<>".contains(letter) || letter.is_whitespace());
        let authority = &after[..end.unwrap_or(after.len())];
        rest = after;
        if let Some((login, _)) = authority.rsplit_once('@')
            && let Some((user, _)) = login.split_once(':')
        {
            masked.push_str(user);
            masked.push(':');
            masked.push_str(MASK);
            rest = &after[login.len()..];
        }
    }
    if masked.is_empty() {
        return Cow::Borrowed(text);
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_written_masked() {
        let secret: Secret =
            toml::from_str::<std::collections::BTreeMap<String, Secret>>("a = \"pst\"").unwrap()["a"].clone();
        assert_eq!(secret.expose(), "pst");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
    }

    #[test]
    fn passwords_of_urls_are_masked_and_nothing_else() {
        for (text, masked) in [
            ("mqtt://anna:pst@broker:1883", "mqtt://anna:***@broker:1883"),
            (
                "\"mqtts://a:p:s@t@b/x\" is no URL, nor is http://u:pw@h",
                "\"mqtts://a:***@b/x\" is no URL, nor is http://u:***@h",
            ),
            ("http://anna@host:80/a:b@c", "http://anna@host:80/a:b@c"),
            ("http://[::1]:5000/", "http://[::1]:5000/"),
            ("no URL: a:b@c", "no URL: a:b@c"),
        ] {
            assert_eq!(mask_passwords(text), masked);
        }
    }
}
