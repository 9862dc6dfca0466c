//! The settings of a program: one struct that declares each setting once, and four layers that give the values.
//!
//! A program writes a struct of its settings with their defaults, and derives `clap::Args`, serde's traits and
//! `schemars::JsonSchema` for it. [`Flags`] is the command line for that struct. [`Flags::load`] merges the layers, key
//! by key: defaults, the config file, environment variables, flags. The source of every value is kept, so that an error
//! about the value names the line, the variable or the flag.
//!
//! The names of environment variables come from the JSON Schema of the struct: `[clips] pre_roll_ms` is
//! `MEOWLINK_HUB_CLIPS_PRE_ROLL_MS`.

mod command;
mod environment;
mod faults;
mod flags;
mod keys;
mod kind;
mod layers;
mod schema;
mod secret;
mod show;
mod value;

use std::fmt;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};

pub use command::{ConfigCommand, ShowArgs};
pub use environment::{Variables, nearest};
pub use flags::{AllFlags, Flags, Selection, print_line_error};
pub use keys::{Key, keys};
pub use layers::Loaded;
pub use schema::schema;
pub use secret::{Secret, mask_passwords, mask_url};

/// The settings of a program. Put `#[serde(deny_unknown_fields, default)]` on the struct and on the structs of its
/// sections.
///
/// The fields of the struct are keys of the config file. A field with `#[arg(long)]` is a flag too, and its id must be
/// the name of the field. A section is a field of another such struct with `#[arg(skip)]`. Each type must serialise to
/// the form that it is deserialised from.
pub trait Settings:
    clap::Args + Clone + fmt::Debug + Default + DeserializeOwned + Serialize + schemars::JsonSchema
{
    /// Name of the program.
    const PROGRAM: &'static str;
    /// The prefix of the names of its environment variables.
    const PREFIX: &'static str;
    /// The older prefix. Variables with it are still read, for keys outside sections.
    const OLD_PREFIX: &'static str;

    /// Checks what the types and the ranges of the keys do not say: values that must fit each other, and what a start
    /// needs of the machine, such as a folder that `variables` name, or a file with a secret.
    ///
    /// # Errors
    /// Names the key.
    fn check(&self, variables: &Variables) -> Result<(), ConfigError>;

    /// Checks what only the process needs that serves, such as a folder that systemd gives to the service alone. Other
    /// commands read the same file without it.
    ///
    /// # Errors
    /// Names the key.
    fn check_start(&self, variables: &Variables) -> Result<(), ConfigError> {
        let _ = variables;
        Ok(())
    }

    /// The values that the program works out for keys that are unset, for `config show`.
    fn derived(&self, variables: &Variables) -> Vec<Derived> {
        let _ = variables;
        Vec::new()
    }
}

/// A value that the program works out for a key that is unset.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// The key, with its section.
    pub key: &'static str,
    /// The value in use.
    pub value: serde_json::Value,
    /// What it is worked out from: "the variable HOME".
    pub from: String,
}

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// No layer sets it.
    Default,
    /// The config file.
    File {
        /// The file.
        path: PathBuf,
        /// The line of the value, from 1. `None`: the value has several lines.
        line: Option<usize>,
    },
    /// The environment variable of this name.
    Environment(String),
    /// The flag of this name, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::File { path, line: Some(line) } => write!(out, "{}:{line}", path.display()),
            Self::File { path, line: None } => write!(out, "{}", path.display()),
            Self::Environment(name) | Self::Flag(name) => out.write_str(name),
        }
    }
}

/// Why a config cannot be used. The text names the source of the value: file, line and key, or the variable, or the
/// flag.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the config file: {}", path.display(), crate::cause::cause(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key or a value that the program does not know.
    #[error("{}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and key.
        message: String,
    },
    /// A value that parses but makes no sense, from whichever layer it came.
    #[error("{key}: {message}")]
    Value {
        /// The key, as in the file and (with dashes) on the command line.
        key: String,
        /// What is wrong with it.
        message: String,
    },
    /// A value that cannot be used, and its source.
    #[error("{}{message}", Place { origin, key })]
    At {
        /// The source of the value.
        origin: Origin,
        /// The key, with its section.
        key: String,
        /// What is wrong with it.
        message: String,
    },
}

/// The beginning of an error about a value.
struct Place<'a> {
    origin: &'a Origin,
    key: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::Default => {}
            Origin::File { path, line: Some(line) } => write!(out, "{}: line {line}: ", path.display())?,
            Origin::File { path, line: None } => write!(out, "{}: ", path.display())?,
            // Their names say the key.
            Origin::Environment(name) | Origin::Flag(name) => return write!(out, "{name}: "),
        }
        if self.key.is_empty() { Ok(()) } else { write!(out, "{}: ", self.key) }
    }
}

impl ConfigError {
    /// A value that makes no sense.
    pub fn value(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Value { key: key.into(), message: message.into() }
    }
}

/// Serialises a value as its text: `#[serde(serialize_with = "as_text")]`.
///
/// # Errors
/// Those of the serializer.
pub fn as_text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
