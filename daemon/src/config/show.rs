//! The settings in effect as text: `config show`.

use serde_json::{Map, Value, json};

use super::faults::{below, label};
use super::secret::MASK;
use super::{ConfigError, Derived, Key, Loaded, Origin, Settings, keys, mask_passwords};

impl<S: Settings> Loaded<S> {
    /// The settings in effect as a config file, with a comment after each value that names its source. Read back, the
    /// file gives the same settings, except for secrets, which are masked. Values of `derived` are comments.
    ///
    /// # Errors
    /// When the settings cannot be serialised.
    pub fn to_toml(&self, derived: &[Derived]) -> Result<String, ConfigError> {
        let mut page = Page { keys: keys::<S>(), derived, lines: Vec::new() };
        page.section(&self.values()?, &[], "", &|key| self.origin(key));
        let title = "the settings in effect. The comment after each value names its source.";
        Ok(format!("# {}: {title}\n{}", S::PROGRAM, page.text()))
    }

    /// The settings in effect as JSON: for each key its value and the source of the value. Values of `derived` are
    /// added as `derived` and `derived_from`.
    ///
    /// # Errors
    /// When the settings cannot be serialised.
    pub fn to_json(&self, derived: &[Derived]) -> Result<Value, ConfigError> {
        let values = Value::from(self.values()?);
        let mut all = Map::new();
        for key in keys::<S>() {
            let value = key.path.iter().fold(&values, |value, name| &value[name]);
            let dotted = key.dotted();
            let mut entry = match self.origin(&dotted) {
                Origin::Default => json!({ "from": "default" }),
                Origin::File { path, line } => json!({ "from": "file", "file": path, "line": line }),
                Origin::Environment(name) => json!({ "from": "environment", "name": name }),
                Origin::Flag(name) => json!({ "from": "flag", "name": name }),
            };
            entry["value"] = value.clone();
            if let Some(derived) = derived.iter().find(|derived| derived.key == dotted) {
                entry["derived"] = derived.value.clone();
                entry["derived_from"] = derived.from.clone().into();
            }
            all.insert(dotted, entry);
        }
        Ok(all.into())
    }

    /// The values in their sections, with secrets masked.
    fn values(&self) -> Result<Map<String, Value>, ConfigError> {
        match serde_json::to_value(&self.settings) {
            Ok(mut value) => {
                clean(&mut value);
                Ok(value.as_object_mut().map(std::mem::take).unwrap_or_default())
            }
            Err(error) => Err(ConfigError::value("config", format!("cannot be shown: {error}"))),
        }
    }
}

/// Masks passwords, and writes numbers of single precision, which all fractions of our settings are, without the digits
/// that double precision adds.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = mask_passwords(text).into_owned(),
        Value::Number(number) if number.is_f64() => {
            let wide = number.as_f64().unwrap_or_default();
            if f64::from(wide as f32) == wide {
                *value = (wide as f32).to_string().parse::<f64>().map_or(Value::Null, Value::from);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(object) => object.values_mut().for_each(clean),
        _ => {}
    }
}

/// Lines of a config file, each with the source that its comment names.
struct Page<'a> {
    keys: Vec<Key>,
    derived: &'a [Derived],
    lines: Vec<(String, Option<String>)>,
}

/// The comments are aligned after the longest line, except after lines longer than this.
const WIDEST: usize = 48;

impl Page<'_> {
    /// Adds the values of a section, then its subsections. `place` is the path of the section with the names of the
    /// items of lists, by which `origin` gives the source of a key.
    fn section(&mut self, values: &Map<String, Value>, path: &[String], place: &str, origin: &dyn Fn(&str) -> Origin) {
        let mut sections = Vec::new();
        for (name, value) in values {
            let path = [path, std::slice::from_ref(name)].concat();
            let dotted = path.join(".");
            let place = below(place, name);
            let origin_of = |key: &str| Some(origin(key).to_string());
            if let Some(derived) = self.derived.iter().find(|derived| derived.key == dotted) {
                let from = format!("derived from {}", derived.from);
                self.lines.push((format!("# {name} = {}", toml_of(&derived.value)), Some(from)));
                continue;
            }
            match value {
                Value::Null if self.is_section(&path) => sections.push((path, place, value)),
                Value::Null => self.lines.push((format!("# {name} is not set"), None)),
                Value::Object(_) => sections.push((path, place, value)),
                Value::Array(items) if items.iter().any(Value::is_object) => sections.push((path, place, value)),
                // As a comment, so that a program that reads the file does not take the mask for the secret.
                Value::String(text) if text == MASK => {
                    self.lines.push((format!("# {name} = {value}"), origin_of(&place)));
                }
                value => self.lines.push((format!("{name} = {}", toml_of(value)), origin_of(&place))),
            }
        }
        for (path, place, value) in sections {
            let dotted = path.join(".");
            let empty = (String::new(), None);
            match value {
                Value::Object(values) => {
                    self.lines.extend([empty, (format!("[{dotted}]"), None)]);
                    self.section(values, &path, &place, origin);
                }
                Value::Array(items) => {
                    for (index, values) in items.iter().filter_map(Value::as_object).enumerate() {
                        let place = below(&place, &label(index, |key| values.get(key)?.as_str()));
                        let header = (format!("[[{dotted}]]"), Some(origin(&place).to_string()));
                        self.lines.extend([empty.clone(), header]);
                        self.section(values, &path, &place, origin);
                    }
                }
                _ => self.lines.extend([empty, (format!("# [{dotted}] is not set"), None)]),
            }
        }
    }

    /// Whether the path is that of a section.
    fn is_section(&self, path: &[String]) -> bool {
        self.keys.iter().any(|key| key.path.len() > path.len() && key.path.starts_with(path))
    }

    fn text(&self) -> String {
        let widths = self.lines.iter().filter(|(_, origin)| origin.is_some()).map(|(line, _)| line.chars().count());
        let width = widths.filter(|width| *width <= WIDEST).max().unwrap_or_default();
        let mut text = String::new();
        for (line, origin) in &self.lines {
            text.push_str(&match origin {
                // A comment must not have control characters, as the path of a file may.
                Some(origin) => format!("{line:width$}  # {}\n", origin.replace(char::is_control, "?")),
                None => format!("{line}\n"),
            });
        }
        text
    }
}

/// A value as TOML. JSON writes scalars in the same way, except for one character.
fn toml_of(value: &Value) -> String {
    if let Value::Array(items) = value {
        return format!("[{}]", items.iter().map(toml_of).collect::<Vec<_>>().join(", "));
    }
    value.to_string().replace('\u{7f}', "\\u007f")
}
