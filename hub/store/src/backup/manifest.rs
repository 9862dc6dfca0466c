//! The manifest of a backup, and what goes into a backup.

use std::path::{Path, PathBuf};

use hub_base::time;
use serde::{Deserialize, Serialize};

use super::error::BackupError;
use crate::migrations;

/// File name of the manifest in a backup.
pub(super) const MANIFEST_FILE: &str = "manifest.json";

/// Version of the form of backups that this program writes, and the latest that it reads.
pub(super) const FORMAT: u32 = 1;

/// Longest manifest that is read, in bytes. It has about 200 bytes a clip.
pub(super) const MAX_MANIFEST_BYTES: u64 = 1 << 30;

/// What a backup is made of.
#[derive(Debug, Clone)]
pub struct Source {
    /// The data folder of the hub.
    pub data_dir: PathBuf,
    /// Config files that go along.
    pub config: Vec<ConfigFile>,
    /// Whether `config` has secrets.
    pub with_secrets: bool,
}

/// A config file that goes along with a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Name in the folder `config` of the backup, without a folder.
    pub name: String,
    /// Content.
    pub content: Vec<u8>,
}

/// What a backup holds. Programs other than the hub may read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the form of the backup.
    pub format: u32,
    /// Version of the hub that made the backup.
    pub program: String,
    /// When the backup was made, RFC 3339 in UTC.
    pub made_at: String,
    /// Schema version of the database.
    pub schema_version: u32,
    /// Whether the config files have their secrets.
    pub with_secrets: bool,
    /// What the database holds.
    pub counts: Counts,
    /// Clips that the database refers to and whose files were missing.
    pub missing_clips: u64,
    /// Every file of the backup but the manifest.
    pub files: Vec<FileEntry>,
}

/// Numbers of what a database holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Events with a label.
    pub labelled: u64,
    /// Events with a clip.
    pub clips: u64,
    /// Notifications.
    pub notifications: u64,
    /// Analyses on demand.
    pub analyses: u64,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path: `hub.sqlite`, `clips/NAME` or `config/NAME`.
    pub path: String,
    /// Name in the folder `clips` of the backup folder, where it differs. Absent: the name in `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_as: Option<String>,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256, in lower-case hexadecimal.
    pub sha256: String,
    /// When the original was changed, in nanoseconds since 1970 UTC.
    pub modified_ns: i64,
}

/// The part of a manifest that all versions have.
#[derive(Deserialize)]
struct Version {
    format: u32,
    program: String,
    #[serde(default)]
    schema_version: u32,
}

impl Manifest {
    /// A manifest without files, made now.
    pub(super) fn new(source: &Source, schema_version: u32, counts: Counts) -> Self {
        Self {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            made_at: time::rfc3339(time::now_ns()),
            schema_version,
            with_secrets: source.with_secrets,
            counts,
            missing_clips: 0,
            files: Vec::new(),
        }
    }

    /// Reads a manifest. `path` is the backup.
    ///
    /// # Errors
    /// [`BackupError::TooNew`] if a newer program made the backup, [`BackupError::Damaged`] if the text is no manifest.
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Self, BackupError> {
        let damaged = |why: serde_json::Error| BackupError::Damaged {
            path: path.to_path_buf(),
            what: format!("{MANIFEST_FILE} cannot be read: {why}"),
        };
        let version: Version = serde_json::from_slice(text).map_err(damaged)?;
        let too_new = |what, version_found, known| BackupError::TooNew {
            program: version.program.clone(),
            what,
            version: version_found,
            known,
        };
        if version.format > FORMAT {
            return Err(too_new("backups", version.format, FORMAT));
        }
        if version.schema_version > migrations::LATEST {
            return Err(too_new("databases", version.schema_version, migrations::LATEST));
        }
        serde_json::from_slice(text).map_err(damaged)
    }

    /// The text of the manifest.
    pub(super) fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Bytes of all files. At most [`u64::MAX`], whatever the sizes are.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Files in the folder `clips`.
    pub fn clips(&self) -> impl Iterator<Item = &FileEntry> {
        self.files.iter().filter(|file| file.clip_name().is_some())
    }
}

impl FileEntry {
    /// The name of a clip. `None`: the file is no clip.
    pub(super) fn clip_name(&self) -> Option<&str> {
        self.path.strip_prefix(CLIPS_PREFIX)
    }

    /// The name of a clip in the folder `clips` of a backup folder. `None`: the file is no clip.
    pub(super) fn name_in_pool(&self) -> Option<&str> {
        let name = self.clip_name()?;
        Some(self.stored_as.as_deref().unwrap_or(name))
    }
}

/// Beginning of the paths of clips.
pub(super) const CLIPS_PREFIX: &str = "clips/";

/// Beginning of the paths of config files.
pub(super) const CONFIG_PREFIX: &str = "config/";

/// Whether a name is one of a file, and not a path to somewhere else.
pub(super) fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}

/// Whether a path is one that backups have.
pub(super) fn is_backup_path(path: &str) -> bool {
    let name = path.strip_prefix(CLIPS_PREFIX).or_else(|| path.strip_prefix(CONFIG_PREFIX));
    path == crate::DATABASE_FILE || name.is_some_and(is_file_name)
}
