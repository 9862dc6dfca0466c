//! Values given as text: in the environment and on the command line.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeValue};

use super::kind::Kind;
use super::{Key, Origin};

/// A value that was given as text.
#[derive(Debug, Clone)]
pub(super) enum Given {
    Bool(bool),
    /// The number as TOML writes it.
    Number(String),
    Text(String),
    List(Vec<Self>),
}

/// A value for one key, from a layer above the file.
#[derive(Debug, Clone)]
pub(super) struct Assignment {
    pub(super) path: Vec<String>,
    pub(super) value: Given,
    pub(super) origin: Origin,
}

impl Given {
    /// Parses the text of an environment variable. The items of a list are separated by commas.
    ///
    /// # Errors
    /// Says what is wrong, and may quote the text.
    pub(super) fn parse(text: &str, key: &Key) -> Result<Self, String> {
        if text.is_empty() && key.optional {
            return Err("is empty; give it a value or unset it".into());
        }
        match &key.kind {
            Kind::List(_) if text.trim().is_empty() => Ok(Self::List(Vec::new())),
            Kind::List(item) => {
                text.split(',').map(|part| Self::of(part.trim(), item)).collect::<Result<_, _>>().map(Self::List)
            }
            kind => Self::of(text, kind),
        }
    }

    /// Parses the values of a flag: the items of a list, or one text.
    pub(super) fn of_parts(parts: &[String], kind: &Kind) -> Result<Self, String> {
        match (kind, parts) {
            (Kind::List(item), parts) => {
                parts.iter().map(|part| Self::of(part, item)).collect::<Result<_, _>>().map(Self::List)
            }
            (kind, [.., last]) => Self::of(last, kind),
            (_, []) => Err("has no value".into()),
        }
    }

    fn of(text: &str, kind: &Kind) -> Result<Self, String> {
        match kind {
            Kind::Bool => text.parse().map(Self::Bool).map_err(|_| format!("{text:?} is neither true nor false")),
            Kind::Switch(words) if words.iter().any(|word| word == text) => Ok(Self::Text(text.into())),
            Kind::Switch(words) => text.parse().map(Self::Bool).map_err(|_| {
                let words = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
                format!("{text:?} is not true, false or {words}")
            }),
            Kind::Integer => match text.parse::<i128>() {
                Ok(number) => Ok(Self::Number(number.to_string())),
                Err(_) => Err(format!("{text:?} is not a whole number")),
            },
            Kind::Number => match text.parse::<f64>() {
                Ok(number) => Ok(Self::Number(format!("{number:?}").to_ascii_lowercase())),
                Err(_) => Err(format!("{text:?} is not a number")),
            },
            Kind::Text => Ok(Self::Text(text.into())),
            Kind::List(_) | Kind::Tables => Err("only the config file can set it".into()),
        }
    }

    /// The value as the TOML parser would give it for text at `span`.
    pub(super) fn to_toml(&self, span: &Range<usize>) -> Spanned<DeValue<'_>> {
        let value = match self {
            Self::Bool(value) => DeValue::Boolean(*value),
            Self::Number(text) => match DeValue::parse(text) {
                Ok(number) => number.into_inner(),
                // Unreachable: `of` wrote the number. As a string it would be reported as a value of the wrong type.
                Err(_) => DeValue::String(Cow::Borrowed(text)),
            },
            Self::Text(text) => DeValue::String(Cow::Borrowed(text)),
            Self::List(items) => DeValue::Array(items.iter().map(|item| item.to_toml(span)).collect::<DeArray<'_>>()),
        };
        Spanned::new(span.clone(), value)
    }
}
