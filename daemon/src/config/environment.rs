//! The layer of environment variables.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use tracing::warn;

use super::value::{Assignment, Given};
use super::{ConfigError, Key, Origin, Settings, keys};

/// The environment variables of a process.
// Not Debug: it holds secrets of other programs too.
#[derive(Clone, Default)]
pub struct Variables(Vec<(String, OsString)>);

/// Name of the variable for the config file, after the prefix.
const CONFIG: &str = "CONFIG";

impl Variables {
    /// The variables of this process.
    pub fn of_process() -> Self {
        // The names of our variables are ASCII, so others are skipped.
        Self(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect())
    }

    /// The config file that the variables name, if any.
    pub(super) fn config_file<S: Settings>(&self) -> Option<PathBuf> {
        let value = |prefix: &str| self.get(&format!("{prefix}{CONFIG}"));
        value(S::PREFIX).or_else(|| value(S::OLD_PREFIX)).map(PathBuf::from)
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&OsString> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// The values that the variables set. The new name of a variable overrides its old name.
    pub(super) fn assignments<S: Settings>(&self, keys: &[Key]) -> Result<Vec<Assignment>, ConfigError> {
        self.check_names::<S>(keys)?;
        let mut assignments = Vec::new();
        for key in keys {
            let names = [Some(key.variable::<S>()), key.old_variable::<S>()];
            let given = names.into_iter().flatten().find_map(|name| Some((self.get(&name)?, name)));
            let Some((value, name)) = given else { continue };
            let wrong = |message: String| ConfigError::At {
                origin: Origin::Environment(name.clone()),
                key: key.dotted(),
                message: if key.secret {
                    "cannot be used (the value is a secret and is not shown)".into()
                } else {
                    message
                },
            };
            let text = value.to_str().ok_or_else(|| wrong("is not UTF-8".into()))?;
            let value = Given::parse(text, key).map_err(wrong)?;
            assignments.push(Assignment { path: key.path.clone(), value, origin: Origin::Environment(name) });
        }
        Ok(assignments)
    }

    /// Logs the variables that have the prefix of the program's names, but were made by Kubernetes. They set nothing.
    /// Call it when the log is open.
    pub fn warn_of_foreign<S: Settings>(&self) {
        let known: Vec<String> = keys::<S>().iter().map(Key::variable::<S>).collect();
        for (name, value) in self.0.iter().filter(|(name, _)| name.starts_with(S::PREFIX) && !known.contains(name)) {
            if is_of_kubernetes(&name[S::PREFIX.len()..], value) {
                warn!(variable = name, "ignored: Kubernetes made it for one of its services, and it is no setting");
            }
        }
    }

    /// Refuses names with the prefix of the program that belong to no key, unless Kubernetes made them.
    fn check_names<S: Settings>(&self, keys: &[Key]) -> Result<(), ConfigError> {
        let known: Vec<String> =
            keys.iter().map(Key::variable::<S>).chain([format!("{}{CONFIG}", S::PREFIX)]).collect();
        for (name, value) in self.0.iter().filter(|(name, _)| name.starts_with(S::PREFIX)) {
            if known.contains(name) || is_of_kubernetes(&name[S::PREFIX.len()..], value) {
                continue;
            }
            let word = |name: &str| name[S::PREFIX.len()..].to_owned();
            let message = match nearest(&word(name), known.iter().map(|name| word(name))) {
                Some(near) => format!("unknown variable; did you mean {}{near}?", S::PREFIX),
                None => format!("unknown variable; `{} --help` lists the known ones", S::PROGRAM),
            };
            return Err(ConfigError::At { origin: Origin::Environment(name.clone()), key: String::new(), message });
        }
        Ok(())
    }
}

impl<N: Into<String>, V: Into<OsString>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

/// Whether Kubernetes (or a link of Docker) made the variable for a service, whose name begins like the program's
/// variables: `SERVICE_HOST`, `SERVICE_PORT`, `SERVICE_PORT_NAME`, `PORT` with a URL, `PORT_5000_TCP` and
/// `PORT_5000_TCP_ADDR`, each also after more of the service's name. `word` is the name without the prefix.
fn is_of_kubernetes(word: &str, value: &OsStr) -> bool {
    let parts: Vec<&str> = word.split('_').collect();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_url = || value.to_str().is_some_and(|value| value.contains("://"));
    (0..parts.len()).any(|from| match &parts[from..] {
        ["SERVICE", "HOST"] | ["SERVICE", "PORT", ..] => true,
        ["PORT"] => is_url(),
        ["PORT", number, "TCP" | "UDP" | "SCTP"] => is_number(number),
        ["PORT", number, "TCP" | "UDP" | "SCTP", "PROTO" | "PORT" | "ADDR"] => is_number(number),
        _ => false,
    })
}

/// The known name that is most like `name`, if one is.
pub fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    /// The least likeness (of 1) at which one name is taken for a typing error of the other.
    const ALIKE: f64 = 0.8;
    known
        .map(|other| (strsim::jaro_winkler(name, &other), other))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, other)| other)
}
