//! The keys of a program's settings, read from their JSON Schema.

use serde_json::Value;

use super::kind::Kind;
use super::{Settings, schema};

/// A setting: a leaf of the config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its section, when it is in one, and its name.
    pub path: Vec<String>,
    /// What it means.
    pub description: String,
    /// Whether the value must not be shown.
    pub secret: bool,
    pub(super) kind: Kind,
    pub(super) default: Value,
    /// Whether the key may be unset.
    pub(super) optional: bool,
}

impl Key {
    /// The key with its section, as errors name it.
    pub fn dotted(&self) -> String {
        self.path.join(".")
    }

    /// The default as on a command line, empty when there is none.
    pub(super) fn default_text(&self) -> String {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match &self.default {
            Value::Null => String::new(),
            Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
            value => text(value),
        }
    }

    /// The environment variable that sets it.
    pub fn variable<S: Settings>(&self) -> String {
        format!("{}{}", S::PREFIX, self.path.join("_").to_ascii_uppercase())
    }

    /// The older name of that variable, which is still read. Keys in sections have none.
    pub fn old_variable<S: Settings>(&self) -> Option<String> {
        (self.path.len() == 1 && self.is_scalar())
            .then(|| format!("{}{}", S::OLD_PREFIX, self.path[0].to_ascii_uppercase()))
    }

    /// Whether a text can set the key: its value is a scalar or a list of scalars, not a list of tables.
    pub fn is_scalar(&self) -> bool {
        self.kind != Kind::Tables
    }
}

/// All keys of a program, in the order of their names.
pub fn keys<S: Settings>() -> Vec<Key> {
    keys_of(&schema::<S>())
}

pub(super) fn keys_of(schema: &Value) -> Vec<Key> {
    let mut keys = Vec::new();
    collect(schema, &[], &mut keys);
    keys
}

fn collect(section: &Value, path: &[String], keys: &mut Vec<Key>) {
    for (name, property) in section["properties"].as_object().into_iter().flatten() {
        let path = [path, std::slice::from_ref(name)].concat();
        let (value, optional) = without_null(property);
        if value["properties"].is_object() {
            collect(value, &path, keys);
            continue;
        }
        keys.push(Key {
            path,
            description: property["description"].as_str().unwrap_or_default().into(),
            secret: is_secret(value),
            kind: kind(value),
            default: property["default"].clone(),
            optional,
        });
    }
}

/// The schema of the value, and whether the value may be missing.
pub(super) fn without_null(property: &Value) -> (&Value, bool) {
    let is_null = |schema: &Value| schema["type"] == "null";
    if let Some(choices) = property["anyOf"].as_array()
        && choices.iter().any(is_null)
    {
        return (choices.iter().find(|schema| !is_null(schema)).unwrap_or(property), true);
    }
    let optional = property["type"].as_array().is_some_and(|types| types.iter().any(|word| word == "null"));
    (property, optional)
}

fn kind(schema: &Value) -> Kind {
    let has_type = |word: &str| match &schema["type"] {
        Value::String(only) => only == word,
        Value::Array(all) => all.iter().any(|one| one == word),
        _ => false,
    };
    if has_type("boolean") && has_type("string") {
        let words = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Kind::Switch(words.map(str::to_owned).collect())
    } else if has_type("boolean") {
        Kind::Bool
    } else if has_type("integer") {
        Kind::Integer
    } else if has_type("number") {
        Kind::Number
    } else if has_type("array") {
        match kind(&schema["items"]) {
            Kind::Tables => Kind::Tables,
            item => Kind::List(Box::new(item)),
        }
    } else if has_type("string") || schema["oneOf"].as_array().is_some_and(|all| all.iter().all(is_word)) {
        Kind::Text
    } else {
        Kind::Tables
    }
}

/// Whether the schema is one word of an enumeration.
fn is_word(schema: &Value) -> bool {
    schema["type"] == "string"
}

/// The names of all properties, at any depth, and whether the values of each are secret.
pub(super) fn property_names(schema: &Value) -> Vec<(String, bool)> {
    let mut names = Vec::new();
    collect_names(schema, &mut names);
    names
}

fn collect_names(schema: &Value, names: &mut Vec<(String, bool)>) {
    match schema {
        Value::Object(object) => {
            for (name, property) in object.get("properties").and_then(Value::as_object).into_iter().flatten() {
                names.push((name.clone(), is_secret(without_null(property).0)));
            }
            object.values().for_each(|value| collect_names(value, names));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_names(value, names)),
        _ => {}
    }
}

fn is_secret(schema: &Value) -> bool {
    schema["writeOnly"] == true
}
