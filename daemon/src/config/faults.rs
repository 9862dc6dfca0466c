//! Compares the merged layers with the JSON Schema. Serde names the place of an error only as exactly as it knows it,
//! which within a list of tables is not the line; and it knows no ranges.

use std::ops::Range;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::environment::nearest;
use super::keys::without_null;
use super::secret::mask_url;

/// A key or a value that the schema refuses.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) span: Range<usize>,
    /// The key, with its section.
    pub(super) path: String,
    /// What is wrong. It quotes names of keys and numbers, never a text.
    pub(super) message: String,
    /// Whether serde reports this too, and knows more: a value of the wrong type, outside lists of tables.
    pub(super) is_for_serde: bool,
}

/// The first fault of the settings that serde does not report as exactly.
pub(super) fn fault(root: &DeTable<'_>, schema: &Value) -> Option<Fault> {
    let mut faults = Faults { all: Vec::new(), lists: 0 };
    faults.table(root, schema, "", &(0..0));
    faults.all.into_iter().find(|fault| !fault.is_for_serde)
}

/// The name of an item of a list in the path of a key: that of `name`, or else of `type`, or else its number from 1.
/// `text` gives the text of a key.
pub(super) fn label<'a>(index: usize, text: impl Fn(&str) -> Option<&'a str>) -> String {
    // The text may stand in the wrong place, and be a URL with a password.
    let named = |key| text(key).filter(|text| !text.is_empty()).map(|text| mask_url(text).into_owned());
    named("name").or_else(|| named("type")).unwrap_or_else(|| (index + 1).to_string())
}

/// The text of a key of a table.
pub(super) fn text_of<'a>(table: &'a DeTable<'_>, key: &str) -> Option<&'a str> {
    match table.get(key)?.get_ref() {
        DeValue::String(text) => Some(text),
        _ => None,
    }
}

/// The path of a key below another.
pub(super) fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

struct Faults {
    all: Vec<Fault>,
    /// In how many lists of tables the walk is.
    lists: usize,
}

impl Faults {
    fn table(&mut self, table: &DeTable<'_>, schema: &Value, path: &str, span: &Range<usize>) {
        let schema = match schema["oneOf"].as_array() {
            Some(kinds) => match self.kind(table, kinds, path, span) {
                Some(kind) => kind,
                None => return,
            },
            None => schema,
        };
        let none = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&none);
        for (name, value) in table {
            let path = below(path, name.get_ref());
            match known.get(name.get_ref().as_ref()) {
                Some(schema) => self.value(value, schema, &path),
                None if schema["additionalProperties"] == false => {
                    let message = match nearest(name.get_ref(), known.keys().cloned()) {
                        Some(near) => format!("unknown key; did you mean {near:?}?"),
                        None => "unknown key".into(),
                    };
                    self.add(&name.span(), &path, message);
                }
                None => {}
            }
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !table.contains_key(*name)) {
            self.add(span, path, format!("the key {name:?} is missing"));
        }
    }

    /// The schema of a table that says by the key `type` what it is.
    fn kind<'s>(
        &mut self,
        table: &DeTable<'_>,
        kinds: &'s [Value],
        path: &str,
        span: &Range<usize>,
    ) -> Option<&'s Value> {
        let of = |kind: &'s Value| kind["properties"]["type"]["const"].as_str();
        let Some(given) = table.get("type") else {
            self.add(span, path, "the key \"type\" is missing".into());
            return None;
        };
        let found = kinds.iter().find(|kind| of(kind).is_some() && of(kind) == text_of(table, "type"));
        if found.is_none() {
            let known: Vec<_> = kinds.iter().filter_map(of).collect();
            self.add(&given.span(), &below(path, "type"), format!("is not one of {}", known.join(", ")));
        }
        found
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, schema: &Value, path: &str) {
        let (schema, _) = without_null(schema);
        let span = value.span();
        let is = |word: &str| match &schema["type"] {
            Value::String(only) => only == word,
            Value::Array(all) => all.iter().any(|one| one == word),
            _ => false,
        };
        match value.get_ref() {
            DeValue::Table(table) if is("object") || schema["oneOf"].is_array() => {
                self.table(table, schema, path, &span);
            }
            DeValue::Array(items) if is("array") => {
                for (index, item) in items.iter().enumerate() {
                    if let DeValue::Table(table) = item.get_ref() {
                        self.lists += 1;
                        self.value(item, &schema["items"], &below(path, &label(index, |key| text_of(table, key))));
                        self.lists -= 1;
                    } else {
                        self.value(item, &schema["items"], path);
                    }
                }
            }
            DeValue::Integer(number) if is("integer") || is("number") => {
                if let Ok(number) = i128::from_str_radix(number.as_str(), number.radix()) {
                    self.number(number as f64, &number.to_string(), schema, path, &span);
                }
            }
            DeValue::Float(number) if is("number") => {
                if let Ok(value) = number.as_str().parse::<f64>() {
                    self.number(value, number.as_str(), schema, path, &span);
                }
            }
            DeValue::String(text) if is("string") && text.is_empty() && schema["minLength"].as_u64() > Some(0) => {
                self.add(&span, path, "is empty".into());
            }
            DeValue::String(_) if is("string") || schema["oneOf"].is_array() => {}
            DeValue::Boolean(_) if is("boolean") => {}
            _ => {
                let Some(message) = TYPES.iter().find(|(word, _)| is(word)).map(|(_, message)| *message) else {
                    return;
                };
                let is_for_serde = self.lists == 0;
                self.all.push(Fault { span, path: path.into(), message: message.into(), is_for_serde });
            }
        }
    }

    /// Checks the range of a number. NaN is in no range.
    fn number(&mut self, value: f64, text: &str, schema: &Value, path: &str, span: &Range<usize>) {
        let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        let fits = least.is_none_or(|least| value >= least) && most.is_none_or(|most| value <= most);
        if fits {
            return;
        }
        let message = match (least, most) {
            (Some(least), Some(most)) => format!("{text} is not between {least} and {most}"),
            (Some(least), None) => format!("{text} is not {least} or more"),
            (_, most) => format!("{text} is not {} or less", most.unwrap_or_default()),
        };
        self.add(span, path, message);
    }

    fn add(&mut self, span: &Range<usize>, path: &str, message: String) {
        self.all.push(Fault { span: span.clone(), path: path.into(), message, is_for_serde: false });
    }
}

/// What a value must be, by the type of the schema.
const TYPES: [(&str, &str); 6] = [
    ("object", "must be a table"),
    ("array", "must be a list"),
    ("boolean", "must be true or false"),
    ("integer", "must be a whole number"),
    ("number", "must be a number"),
    ("string", "must be a text in quotes"),
];
