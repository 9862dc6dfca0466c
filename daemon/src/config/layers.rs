//! Merges the layers, and reports values that are wrong.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::environment::nearest;
use super::faults::{Fault, below, fault, label, text_of};
use super::keys::property_names;
use super::value::Assignment;
use super::{ConfigError, Origin, Settings, Variables, mask_passwords, schema};
use crate::serde_words;

/// The settings after all layers are merged, and the source of each.
#[derive(Debug, Clone)]
pub struct Loaded<S> {
    /// The settings.
    pub settings: S,
    /// The sources of the values that are set, by key with section.
    origins: Vec<(String, Origin)>,
    /// The same of the tables that are there.
    tables: Vec<(String, Origin)>,
}

impl<S: Settings> Loaded<S> {
    /// Checks the settings, as a start of the program does.
    ///
    /// # Errors
    /// Names the key, and the source of its value.
    pub fn check(&self, variables: &Variables) -> Result<(), ConfigError> {
        self.checked(self.settings.check(variables))
    }

    /// Adds the source of the value to an error that names only the key.
    ///
    /// # Errors
    /// Those of `result`.
    pub fn checked<T>(&self, result: Result<T, ConfigError>) -> Result<T, ConfigError> {
        result.map_err(|error| match error {
            ConfigError::Value { key, message } => {
                let message = mask_passwords(&message).into_owned();
                ConfigError::At { origin: self.nearest_origin(&key), key, message }
            }
            other => other,
        })
    }

    /// Where the value of a key, or a table, comes from.
    pub fn origin(&self, key: &str) -> Origin {
        let table = || self.tables.iter().find(|(other, _)| other == key).map(|(_, origin)| origin);
        self.set_by(key).or_else(table).cloned().unwrap_or(Origin::Default)
    }

    /// Of two tables of a list that have one name, the later one counts: it is the one that a check refuses.
    fn set_by(&self, key: &str) -> Option<&Origin> {
        self.origins.iter().rfind(|(other, _)| other == key).map(|(_, origin)| origin)
    }

    /// The origin of the key, or of the table of the file that could contain it: `[[owners]]` for
    /// `owners.Anna.channels`.
    fn nearest_origin(&self, key: &str) -> Origin {
        if let Some(origin) = self.set_by(key) {
            return origin.clone();
        }
        let mut part = Some(key);
        while let Some(table) = part {
            let found = self.tables.iter().rfind(|(other, _)| other == table).map(|(_, origin)| origin);
            if let Some(origin @ Origin::File { .. }) = found {
                return origin.clone();
            }
            // A list of tables has many lines.
            if let Some(Origin::File { path, .. }) = self.set_by(table) {
                return Origin::File { path: path.clone(), line: None };
            }
            part = table.rsplit_once('.').map(|(table, _)| table);
        }
        Origin::Default
    }
}

/// The text of a config file.
fn read(path: &Path) -> Result<String, ConfigError> {
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let message = format!("line {line}: a character is not UTF-8; save the file as UTF-8");
        ConfigError::Parse { path: path.into(), message }
    })
}

/// Merges the defaults, the file and the assignments. Each overrides those before it.
pub(super) fn load<S: Settings>(file: Option<&Path>, upper: &[Assignment]) -> Result<Loaded<S>, ConfigError> {
    let text = match file {
        Some(path) => read(path)?,
        None => String::new(),
    };
    let schema = schema::<S>();
    let names = property_names(&schema);
    let file = File { path: file, text: &text, names: &names };
    let mut root = DeTable::parse(&text).map_err(|error| file.syntax_error(&error))?.into_inner();
    let mut origins = Vec::new();
    for (index, assignment) in upper.iter().enumerate() {
        // A span after the end of the file identifies the assignment.
        let span = text.len() + 1 + index..text.len() + 2 + index;
        assign(&mut root, &assignment.path, assignment, &span);
        origins.push((span, assignment.origin.clone()));
    }
    let mut map = Map { file, upper: origins, nodes: Vec::new() };
    map.visit_table(&root, "");
    if let Some(fault) = fault(&root, &schema) {
        return Err(map.fault(&fault));
    }
    let root = Spanned::new(0..0, root);
    let settings = S::deserialize(Deserializer::from(root)).map_err(|error| map.error(&error))?;
    let of = |role: Role| {
        let nodes = map.nodes.iter().filter(|node| node.role == role);
        nodes.map(|node| (node.path.clone(), map.origin(&node.span))).collect()
    };
    Ok(Loaded { settings, origins: of(Role::Value), tables: of(Role::Table) })
}

/// Puts an assignment into a table.
fn assign<'t>(table: &mut DeTable<'t>, path: &'t [String], assignment: &'t Assignment, span: &Range<usize>) {
    let Some((name, rest)) = path.split_first() else { return };
    let key = Spanned::new(span.clone(), Cow::Borrowed(name.as_str()));
    if rest.is_empty() {
        match table.get_mut(name.as_str()) {
            Some(value) => *value = assignment.value.to_toml(span),
            None => _ = table.insert(key, assignment.value.to_toml(span)),
        }
        return;
    }
    if !table.contains_key(name.as_str()) {
        table.insert(key, Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
    }
    // If the file has a value of another type here, it stays, and the parser reports it.
    if let Some(DeValue::Table(section)) = table.get_mut(name.as_str()).map(Spanned::get_mut) {
        assign(section, rest, assignment, span);
    }
}

/// The config file.
struct File<'a> {
    path: Option<&'a Path>,
    text: &'a str,
    /// The names of all keys of the program, and whether their values are secret.
    names: &'a [(String, bool)],
}

impl File<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Reports text that is not TOML. The message quotes nothing of the line but a known key: the rest may be a secret.
    fn syntax_error(&self, error: &toml::de::Error) -> ConfigError {
        let offset = error.span().map_or(0, |span| span.start).min(self.text.len());
        let before = &self.text[..offset];
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = self.text[start..].lines().next().unwrap_or_default();
        let key = line
            .split_once('=')
            .map(|(key, _)| key.trim())
            .filter(|key| self.names.iter().any(|(name, _)| name == key));
        let key = key.map(|key| format!("{key}: ")).unwrap_or_default();
        let column = before[start..].chars().count() + 1;
        let message = format!("line {}: {key}not valid TOML: {} (column {column})", self.line(offset), error.message());
        ConfigError::Parse { path: self.path.unwrap_or(Path::new("")).into(), message }
    }
}

/// The position of every key and value in the layers.
struct Map<'a> {
    file: File<'a>,
    upper: Vec<(Range<usize>, Origin)>,
    nodes: Vec<Node>,
}

/// A key or a value.
struct Node {
    span: Range<usize>,
    path: String,
    role: Role,
}

/// What a node of the config is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Key,
    Table,
    /// A value that has a key.
    Value,
    /// A value in a list.
    Item,
}

impl Map<'_> {
    fn visit_table(&mut self, table: &DeTable<'_>, path: &str) {
        for (name, value) in table {
            let path = below(path, name.get_ref());
            self.nodes.push(Node { span: name.span(), path: path.clone(), role: Role::Key });
            self.visit_value(value, &path, Role::Value);
        }
    }

    fn visit_value(&mut self, value: &Spanned<DeValue<'_>>, path: &str, role: Role) {
        let role = if value.get_ref().is_table() { Role::Table } else { role };
        self.nodes.push(Node { span: value.span(), path: path.into(), role });
        match value.get_ref() {
            DeValue::Table(table) => self.visit_table(table, path),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    match item.get_ref() {
                        DeValue::Table(table) => {
                            let path = below(path, &label(index, |key| text_of(table, key)));
                            self.visit_value(item, &path, Role::Table);
                        }
                        _ => self.visit_value(item, path, Role::Item),
                    }
                }
            }
            _ => {}
        }
    }

    fn origin(&self, span: &Range<usize>) -> Origin {
        match self.upper.iter().find(|(upper, _)| upper.start == span.start) {
            Some((_, origin)) => origin.clone(),
            None => {
                let path = self.file.path.unwrap_or(Path::new("")).into();
                Origin::File { path, line: Some(self.file.line(span.start)) }
            }
        }
    }

    /// Reports a key or a value that the schema refuses.
    fn fault(&self, fault: &Fault) -> ConfigError {
        ConfigError::At { origin: self.origin(&fault.span), key: fault.path.clone(), message: fault.message.clone() }
    }

    /// Reports the value that an error of the parser points to. Of a value in a table, the parser may point to another
    /// table of the same list.
    fn error(&self, error: &toml::de::Error) -> ConfigError {
        let span = error.span().unwrap_or(0..0);
        let node = self.nodes.iter().rev().find(|node| node.span == span);
        let key = node.map_or("", |node| node.path.as_str());
        let is_table = node.is_none_or(|node| node.role == Role::Table);
        let is_secret = |path: &str| {
            path.rsplit('.').next().is_some_and(|name| self.file.names.iter().any(|(secret, is)| *is && secret == name))
        };
        // Quoted, if it is a text of the file.
        let given = self.file.text.get(span.clone()).filter(|text| !text.is_empty() && !text.contains('\n'));
        let is_part = |path: &str| path == key || path.starts_with(&format!("{key}."));
        let mut parts = self.nodes.iter().filter(|node| is_table || is_part(&node.path));
        let message = plain(error.message(), given);
        let message = match message {
            Message::OfKeys(message) => message,
            Message::OfValue(_) if parts.any(|node| is_secret(&node.path)) => {
                "has a value of the wrong type or form (not shown: it may hold a secret)".into()
            }
            Message::OfValue(message) => mask_passwords(&message).into_owned(),
        };
        ConfigError::At { origin: self.origin(&span), key: key.into(), message }
    }
}

/// A message of serde, rewritten for the user of a config file.
enum Message {
    /// It is about the name of a key, and contains no value.
    OfKeys(String),
    OfValue(String),
}

fn plain(message: &str, given: Option<&str>) -> Message {
    let mut names = message.split('`').skip(1).step_by(2).map(str::to_owned);
    if message.starts_with("unknown field") {
        // The first name is the unknown one; the known ones follow.
        let unknown = names.next().unwrap_or_default();
        return Message::OfKeys(match nearest(&unknown, names) {
            Some(near) => format!("unknown key; did you mean {near:?}?"),
            None => "unknown key".into(),
        });
    }
    if message.starts_with("missing field") {
        return Message::OfKeys(format!("the key {:?} is missing", names.next().unwrap_or_default()));
    }
    Message::OfValue(serde_words::of_value(message, given))
}
