//! The settings as text: `config show`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::secret::MASK;
use super::{ConfigError, Loaded, Origin, Settings, keys, mask_passwords};

/// Settings written as TOML, in the order of the struct.
#[derive(Debug, Default)]
pub(super) struct Rendered(String);

/// A value of the rendered settings.
struct Leaf {
    /// Its section, if it is in one.
    section: String,
    /// Its key, with section.
    key: String,
    span: Range<usize>,
    value: Value,
    is_table_list: bool,
}

impl Rendered {
    /// # Errors
    /// When a value has no form in TOML, such as a number above 2^63.
    pub(super) fn of(settings: &impl Settings) -> Result<Self, ConfigError> {
        match toml::to_string(settings) {
            Ok(text) => Ok(Self(text)),
            Err(error) => Err(ConfigError::value("config", format!("cannot be written as TOML: {error}"))),
        }
    }

    /// The value of a key as on a command line: none, one, or the items of a list.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let leaf = self.leaves().into_iter().find(|leaf| leaf.key == key);
        match leaf.map(|leaf| leaf.value) {
            None | Some(Value::Object(_)) => Vec::new(),
            Some(Value::Array(items)) => items.iter().map(text).collect(),
            Some(value) => vec![text(&value)],
        }
    }

    fn leaves(&self) -> Vec<Leaf> {
        let mut leaves = Vec::new();
        if let Ok(root) = DeTable::parse(&self.0) {
            collect(root.get_ref(), "", &mut leaves);
        }
        leaves
    }
}

fn collect(table: &DeTable<'_>, section: &str, leaves: &mut Vec<Leaf>) {
    for (name, value) in table {
        let key = if section.is_empty() { name.get_ref().to_string() } else { format!("{section}.{}", name.get_ref()) };
        if let DeValue::Table(section) = value.get_ref() {
            collect(section, &key, leaves);
            continue;
        }
        let is_table_list =
            value.get_ref().as_array().is_some_and(|items| items.iter().any(|item| item.get_ref().is_table()));
        leaves.push(Leaf { section: section.into(), key, span: value.span(), value: json_of(value), is_table_list });
    }
}

/// The value in JSON, without what must not be shown.
fn json_of(value: &Spanned<DeValue<'_>>) -> Value {
    match value.get_ref() {
        DeValue::String(text) => Value::from(mask_passwords(text)),
        DeValue::Integer(number) => number.as_str().parse::<i64>().map_or(Value::Null, Value::from),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(yes) => Value::from(*yes),
        DeValue::Datetime(moment) => Value::from(moment.to_string()),
        DeValue::Array(items) => items.iter().map(json_of).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(name, value)| (name.get_ref().to_string(), json_of(value))).collect()
        }
    }
}

impl<S: Settings> Loaded<S> {
    /// The settings in effect as a config file, with a comment behind each value that says where it comes from. The
    /// file gives the same settings again, but for secrets: they are masked.
    ///
    /// # Errors
    /// When a value has no form in TOML, such as a number above 2^63.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        let rendered = Rendered::of(&self.settings)?;
        let text = &rendered.0;
        let leaves = rendered.leaves();
        let mut edits = Vec::new();
        if let Ok(root) = DeTable::parse(text) {
            mask(text, root.get_ref(), &mut edits);
        }
        let width = leaves.iter().map(|leaf| line_of(text, leaf.span.end).len()).filter(|width| *width <= WIDEST).max();
        for leaf in &leaves {
            let at = if leaf.is_table_list { header(text, &format!("[[{}]]", leaf.key)) } else { Some(leaf.span.end) };
            let Some(line) = at.map(|at| line_of(text, at)) else { continue };
            let padding = width.unwrap_or_default().saturating_sub(line.len());
            edits.push(Edit::insert(line.end, format!("{:padding$}  # {}", "", self.origin(&leaf.key))));
        }
        for (section, names) in unset::<S>(&leaves) {
            let last = leaves
                .iter()
                .filter(|leaf| leaf.section == section && !leaf.is_table_list)
                .map(|leaf| leaf.span.end)
                .max();
            let line = last.or_else(|| header(text, &format!("[{section}]"))).map(|at| line_of(text, at));
            let note = match line {
                None if section.is_empty() => names.iter().map(|name| format!("# {name} is not set\n")).collect(),
                None => format!("\n# [{section}] is not set\n"),
                Some(_) => names.iter().map(|name| format!("\n# {name} is not set")).collect(),
            };
            let end = if section.is_empty() { 0 } else { text.len() };
            edits.push(Edit::insert(line.map_or(end, |line| line.end), note));
        }
        let title = "The settings in effect. The comment behind a value says where the value comes from.";
        Ok(format!("# {}: {title}\n{}", S::PROGRAM, edited(text, edits)))
    }

    /// The settings in effect as JSON: for each key its value and where the value comes from.
    ///
    /// # Errors
    /// When a value has no form in TOML, such as a number above 2^63.
    pub fn to_json(&self) -> Result<Value, ConfigError> {
        let leaves = Rendered::of(&self.settings)?.leaves();
        let mut all = serde_json::Map::new();
        for key in keys::<S>() {
            let key = key.dotted();
            let value = leaves.iter().find(|leaf| leaf.key == key).map_or(Value::Null, |leaf| leaf.value.clone());
            let entry = match self.origin(&key) {
                Origin::Default => json!({ "value": value, "from": "default" }),
                Origin::File { path, line } => json!({ "value": value, "from": "file", "file": path, "line": line }),
                Origin::Environment(name) => json!({ "value": value, "from": "environment", "name": name }),
                Origin::Flag(name) => json!({ "value": value, "from": "flag", "name": name }),
            };
            all.insert(key, entry);
        }
        Ok(all.into())
    }
}

/// Lines longer than this do not move the comments of all others.
const WIDEST: usize = 48;

/// A change of a text.
struct Edit {
    at: Range<usize>,
    text: String,
}

impl Edit {
    fn insert(at: usize, text: String) -> Self {
        Self { at: at..at, text }
    }
}

/// Makes all changes. Of those at the same place the first comes first.
fn edited(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| edit.at.start);
    let mut text = text.to_owned();
    for edit in edits.iter().rev() {
        text.replace_range(edit.at.clone(), &edit.text);
    }
    text
}

/// The line of a place, without its end.
fn line_of(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
    start..end
}

/// Where the first header of a section is.
fn header(text: &str, header: &str) -> Option<usize> {
    text.starts_with(header).then_some(0).or_else(|| text.find(&format!("\n{header}")).map(|end| end + 1))
}

/// Puts a `#` before each secret, and masks the passwords of URLs.
fn mask(text: &str, table: &DeTable<'_>, edits: &mut Vec<Edit>) {
    for value in table.values() {
        mask_value(text, value, edits);
    }
}

fn mask_value(text: &str, value: &Spanned<DeValue<'_>>, edits: &mut Vec<Edit>) {
    match value.get_ref() {
        DeValue::String(shown) if shown == MASK => {
            edits.push(Edit::insert(line_of(text, value.span().start).start, "# ".into()));
        }
        DeValue::String(shown) => {
            if let Cow::Owned(masked) = mask_passwords(shown) {
                edits.push(Edit { at: value.span(), text: toml::Value::from(masked).to_string() });
            }
        }
        DeValue::Array(items) => items.iter().for_each(|item| mask_value(text, item, edits)),
        DeValue::Table(table) => mask(text, table, edits),
        _ => {}
    }
}

/// The keys that have no value, by section.
fn unset<S: Settings>(leaves: &[Leaf]) -> BTreeMap<String, Vec<String>> {
    let mut unset: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for key in keys::<S>() {
        if !leaves.iter().any(|leaf| leaf.key == key.dotted())
            && let Some((name, section)) = key.path.split_last()
        {
            unset.entry(section.join(".")).or_default().push(name.clone());
        }
    }
    unset
}
