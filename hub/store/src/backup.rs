//! Backups: copies of the database and its clips, made while the hub runs, and their way back.
//!
//! A backup folder holds several backups and one pool of clips, so that a further backup copies only the clips that are
//! new:
//!
//! ```text
//! meowlink-backups.txt         marks the folder as one for backups
//! clips/                       the clips of all backups
//! 000001-20261128T030000Z/     a backup: hub.sqlite, manifest.json and config/
//! ```
//!
//! A backup is written to a folder whose name ends in `.part`, checked, and renamed at the end. So a folder without
//! that ending is a complete backup. A tar archive has the same files, and its manifest comes last: an archive that was
//! cut off has none.
//!
//! [`Backups`] makes them every night, makes the daily snapshots of the database in the data folder, and checks the
//! database once a day.
//!
//! Copies do not contain the events that a person deleted, nor the labels that a person took back.

mod archive;
mod config;
mod copy;
mod error;
mod files;
mod folder;
mod keeper;
mod manifest;
mod restore;
mod snapshots;
mod state;

pub use archive::{back_up_to_tar, back_up_to_writer};
pub use config::BackupConfig;
pub use error::BackupError;
pub use folder::{BackedUp, back_up_to_folder};
pub use keeper::{BackupState, Backups, Check, Failure};
pub use manifest::{ConfigFile, Counts, FileEntry, Manifest, Source};
pub use restore::{RestoreFrom, Restored, copies_aside, restore};
pub use snapshots::{KEEP as SNAPSHOTS_KEPT, keep_before_upgrade};
pub use state::{LastBackup, remember};

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
