//! Settings in effect that say what is stored.

use std::path::PathBuf;

use hub_listen::EventsConfig;
use hub_store::backup::BackupConfig;

/// Settings in effect that say what is stored, where and how long.
#[derive(Debug, Clone, Default)]
pub struct PrivacySettings {
    /// The data folder.
    pub data_dir: PathBuf,
    /// `[events]` of the config.
    pub events: EventsConfig,
    /// `[notices] keep_days` of the config.
    pub notices_keep_days: u32,
    /// `[backup]` of the config.
    pub backup: BackupConfig,
}

impl PrivacySettings {
    /// What a deletion does not delete, for people.
    pub(super) fn not_deleted(&self) -> String {
        let others = "Archives and folders that you made with “hub backup” are your own copies, too.";
        match &self.backup.to {
            Some(to) => format!(
                "The backups in {} still hold it, until {} newer ones have replaced them: they are your own copies, and \
                 the hub does not change them. {others}",
                to.display(),
                self.backup.keep
            ),
            None => others.replace(", too", ", and the hub does not change them"),
        }
    }
}
