//! `[backup]` of the config file.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use daemon::config::ConfigError;

/// Backups that a folder keeps, if nothing else is configured: those of a week.
const DEFAULT_KEEP: u32 = 7;

/// How many backups a folder may keep.
const KEEP: RangeInclusive<u32> = 1..=1_000;

/// `[backup]` of the config file.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackupConfig {
    /// Folder for a backup every night, best on another disk. Absent: there is none.
    pub to: Option<PathBuf>,
    /// Backups that the folder keeps. The oldest are deleted.
    #[schemars(range(min = *KEEP.start(), max = *KEEP.end()))]
    pub keep: u32,
    /// The config file, which goes along without its secrets. Not a setting: the program sets it.
    #[serde(skip)]
    pub config_file: Option<PathBuf>,
}

impl Default for BackupConfig {
    fn default() -> Self {
        Self { to: None, keep: DEFAULT_KEEP, config_file: None }
    }
}

impl BackupConfig {
    /// Checks the values.
    ///
    /// # Errors
    /// If the folder is not an absolute path.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.to.as_ref().is_some_and(|to| !to.is_absolute()) {
            return Err(ConfigError::value("backup.to", "is not an absolute path, such as /mnt/backup/meowlink"));
        }
        Ok(())
    }
}
