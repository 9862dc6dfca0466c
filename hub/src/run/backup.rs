//! Starts the backups, in the process that owns the store.

use hub_base::role::Role;
use hub_store::backup::{Backups, Source};

use super::RunError;
use super::shared::Shared;
use crate::backup::config_copies;

/// Starts them. `None`: another process has the analysis role, and with it the store.
pub(super) fn start(shared: &Shared) -> Result<Option<Backups>, RunError> {
    let config = &shared.config;
    if !config.has(Role::Analysis) {
        return Ok(None);
    }
    let files = config_copies(config.backup.config_file.as_deref(), false)?;
    let source = Source { data_dir: shared.data_dir.clone(), config: files, with_secrets: false };
    let backups = Backups::new(source, config.backup.clone());
    shared.tasks.spawn(backups.clone().run(shared.stop.clone()));
    Ok(Some(backups))
}
