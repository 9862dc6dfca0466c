//! Strict TOML config files. Flags and environment variables are laid over them by clap, in each daemon.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a config cannot be used. The text names the file and, for a bad key or value, the line and the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the config file: {source}", path.display())]
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
}

impl ConfigError {
    /// A value that makes no sense.
    pub fn value(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Value { key: key.into(), message: message.into() }
    }

    /// Names the file too when it is there that the value is wrong: when `alone`, which knows the file and no other layer,
    /// fails in the same way.
    #[must_use]
    pub fn in_file<T>(self, file: Option<&Path>, alone: impl FnOnce() -> Result<T, Self>) -> Self {
        let message = self.to_string();
        match (self, file) {
            (Self::Value { .. }, Some(path)) if alone().is_err_and(|error| error.to_string() == message) => {
                Self::Parse { path: path.into(), message }
            }
            (other, _) => other,
        }
    }
}

/// Reads a config file. Give `T` `#[serde(deny_unknown_fields, default)]` on every struct.
///
/// # Errors
/// [`ConfigError::Read`] and [`ConfigError::Parse`].
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    toml::from_str(&text)
        .map_err(|error| ConfigError::Parse { path: path.into(), message: error.to_string().trim_end().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Example {
        gain_db: f32,
    }

    fn load_text(text: &str) -> Result<Example, ConfigError> {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(file.path())
    }

    #[test]
    fn good_file_is_read() {
        assert_eq!(load_text("gain_db = 3.5").unwrap(), Example { gain_db: 3.5 });
    }

    #[test]
    fn unknown_key_names_file_and_key() {
        let error = load_text("gain_db = 1.0\ngian = 2").unwrap_err().to_string();
        assert!(error.contains(".toml: ") && error.contains("gian") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn wrong_type_names_file_and_line() {
        let error = load_text("gain_db = \"loud\"").unwrap_err().to_string();
        assert!(error.contains(".toml: ") && error.contains("gain_db") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn missing_file_names_file() {
        let error = load::<Example>(Path::new("/nowhere/cat.toml")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/cat.toml: cannot read"), "{error}");
    }
}
