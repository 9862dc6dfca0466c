//! Secrets of the config file, given in it or in a file of their own.

use std::path::Path;

use daemon::cause::cause;
use daemon::config::{ConfigError, Secret};

/// The secret as given, or the first line of its file. A file name without a folder is looked up among the credentials
/// that systemd passes on (`LoadCredential=`).
///
/// # Errors
/// Names `key` if the file cannot be read.
pub(super) fn secret(key: &str, given: Option<&Secret>, file: Option<&Path>) -> Result<Option<Secret>, ConfigError> {
    let Some(file) = file else { return Ok(given.cloned()) };
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").filter(|_| file.components().count() == 1);
    let path = credentials.map_or_else(|| file.to_owned(), |folder| Path::new(&folder).join(file));
    let text = std::fs::read_to_string(&path)
        .map_err(|why| ConfigError::value(key, format!("{}: cannot read: {}", path.display(), cause(&why))))?;
    match text.lines().next().map(str::trim).filter(|line| !line.is_empty()) {
        Some(line) => Ok(Some(Secret::new(line))),
        None => Err(ConfigError::value(key, format!("{}: its first line is empty", path.display()))),
    }
}

/// Checks that a secret can be read. A credential of systemd passes: only the service has it.
///
/// # Errors
/// Names `key` if the file cannot be read.
pub(super) fn check_secret(key: &str, file: Option<&Path>) -> Result<(), ConfigError> {
    let is_credential = |file: &Path| file.components().count() == 1 && !file.exists();
    match file {
        Some(file) if !is_credential(file) => secret(key, None, Some(file)).map(drop),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_and_are_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "shh \nsecond line\n").unwrap();
        assert_eq!(secret("key", None, Some(&file)).unwrap(), Some(Secret::new("shh")));
        assert_eq!(secret("key", Some(&Secret::new("a")), None).unwrap(), Some(Secret::new("a")));
        std::fs::write(&file, "\n").unwrap();
        assert!(secret("key", None, Some(&file)).unwrap_err().to_string().starts_with("key: "));
        assert!(secret("key", None, Some(&dir.path().join("none"))).is_err());
        assert!(!format!("{:?}", Secret::new("shh")).contains("shh"));
    }
}
