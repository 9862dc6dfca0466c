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

/// Masks the passwords of the URLs in a text: `mqtt://anna:secret@broker` becomes `mqtt://anna:***@broker`. A password
/// that ought to be percent-encoded is masked too, unless it has spaces or double quotes: see [`mask_url`] for these.
pub fn mask_passwords(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("://").map(|scheme| scheme + 3) {
        let (before, after) = rest.split_at(start);
        masked.push_str(before);
        // A URL may contain single quotes, of these letters no other.
        let end = after.find(|letter: char| "\"`<>".contains(letter) || letter.is_whitespace()).unwrap_or(after.len());
        let end = after.find("://").map_or(end, |next| end.min(next));
        rest = after;
        if let Some(login) = login_of(&after[..end])
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

/// What stands before the `@` in a URL without its scheme.
fn login_of(url: &str) -> Option<&str> {
    let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
    if let Some((login, _)) = authority.rsplit_once('@') {
        return Some(login);
    }
    // What follows the colon is a port, or the beginning of a password with a slash in it.
    let (user, port) = authority.split_once(':')?;
    let is_port = user.starts_with('[') || !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if is_port { None } else { url.rsplit_once('@').map(|(login, _)| login) }
}

/// Masks the password in a text that ought to be one URL, but cannot be used as one. Nothing tells where the password
/// in it ends, so everything up to the last `@` is masked.
pub fn mask_url(text: &str) -> Cow<'_, str> {
    let is_scheme = |scheme: &usize| text[..*scheme].bytes().all(|byte| byte.is_ascii_alphanumeric());
    let start = text.find("://").filter(is_scheme).map_or(0, |scheme| scheme + 3);
    match text[start..].rsplit_once('@') {
        Some((login, host)) if login.contains(':') => {
            let user = login.split(':').next().unwrap_or_default();
            Cow::Owned(format!("{}{user}:{MASK}@{host}", &text[..start]))
        }
        _ => mask_passwords(text),
    }
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
            ("'http://h:80','http://u:p's@h',http://i", "'http://h:80','http://u:***@h',http://i"),
            // Passwords that ought to be percent-encoded.
            ("--url 'mqtt://anna:p/s?t#@broker/x' is", "--url 'mqtt://anna:***@broker/x' is"),
            ("http://[::1]:5000/a@b http://host:80/a@b", "http://[::1]:5000/a@b http://host:80/a@b"),
        ] {
            assert_eq!(mask_passwords(text), masked);
        }
    }

    #[test]
    fn whatever_a_password_consists_of_is_masked_where_the_text_is_a_url() {
        for (text, masked) in [
            ("mqtt://anna:p \"'/s@t@broker", "mqtt://anna:***@broker"),
            ("anna:pst@broker", "anna:***@broker"),
            ("http:/anna:p://t@broker", "http:***@broker"),
            ("http://anna@host:80/a", "http://anna@host:80/a"),
            ("http://host:99999", "http://host:99999"),
        ] {
            assert_eq!(mask_url(text), masked);
        }
    }
}
