//! Works off what people want deleted, in the background of the process that owns the store: see
//! [`deletions`](crate::deletions).

use std::fmt;
use std::time::Duration;

use daemon::shutdown::CancellationToken;
use tracing::{info, warn};

use crate::StoreError;
use crate::backup::{BackupError, Backups};
use crate::clips::Clips;
use crate::deletions::{Deletion, DeletionCounts};

/// Pause after each batch, so that live listening has the database and the disk.
const PAUSE: Duration = Duration::from_millis(20);

/// How often the eraser looks for requests that another process has stored.
const LOOK: Duration = Duration::from_secs(5);

/// Wait after a failure.
const AGAIN: Duration = Duration::from_secs(30);

/// Is called with the numbers of deleted events.
type OnErased = Box<dyn Fn(&[i64]) + Send + Sync>;

/// Works off the requests for deletions, one after the other.
pub struct Eraser {
    clips: Clips,
    backups: Backups,
    on_erased: OnErased,
}

impl fmt::Debug for Eraser {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Eraser").finish_non_exhaustive()
    }
}

/// Why a deletion waits.
#[derive(Debug, thiserror::Error)]
enum EraseError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("quarantine: {}", daemon::cause::cause(.0))]
    Quarantine(#[from] std::io::Error),
    #[error("snapshots: {0}")]
    Snapshots(#[from] BackupError),
}

impl Eraser {
    /// An eraser of these clips, their database and its snapshots. `on_erased` is called with the numbers of the events
    /// of each batch.
    pub fn new(clips: Clips, backups: Backups, on_erased: impl Fn(&[i64]) + Send + Sync + 'static) -> Self {
        Self { clips, backups, on_erased: Box::new(on_erased) }
    }

    /// Works until `stop` is cancelled. A request that was not finished before the last stop goes on. Only the process
    /// that owns the store calls it.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let pause = tokio::select! {
                worked = self.work() => match worked {
                    Ok(()) => LOOK,
                    Err(error) => {
                        warn!(%error, retry_s = AGAIN.as_secs(), "a deletion waits");
                        AGAIN
                    }
                },
                // What is under way is a transaction or a single file, and ends by itself.
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = self.clips.store().deletion_wish().notified() => {}
                () = tokio::time::sleep(pause) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Works off all requests that wait.
    async fn work(&self) -> Result<(), EraseError> {
        while let Some(wanted) = self.clips.store().next_deletion().await? {
            self.erase(&wanted).await?;
        }
        Ok(())
    }

    /// Works off one request. What was done before an interruption is not found again.
    async fn erase(&self, wanted: &Deletion) -> Result<(), EraseError> {
        let store = self.clips.store();
        // Before, because the lines need the events; and after, for labels of events that were deleted meanwhile.
        store.erase_logged_labels(wanted, false).await?;
        self.erase_events(wanted).await?;
        let quarantined = self.clips.erase_quarantined(wanted).await?;
        self.note_copies(wanted, quarantined).await?;
        // A recovery may have brought some back in between.
        self.erase_events(wanted).await?;
        // What the log says of clips in the quarantine is needed until here.
        store.erase_logged_labels(wanted, true).await?;
        while store.erase_the_rest(wanted).await? {
            tokio::time::sleep(PAUSE).await;
        }
        let in_snapshots = self.backups.erase(wanted.clone()).await?;
        self.note_copies(wanted, in_snapshots).await?;
        store.end_deletion(wanted.id).await?;
        if let Err(error) = store.empty_log().await {
            warn!(%error, "the log of the database still holds what was deleted; it is overwritten bit by bit");
        }
        let counts = store.deletions().await?.into_iter().find(|one| one.id == wanted.id).map(|one| one.counts);
        let DeletionCounts { events, clips, labels, notifications, analyses, copies } = counts.unwrap_or_default();
        info!(
            id = wanted.id,
            events, clips, labels, notifications, analyses, copies, "deleted what a person asked for"
        );
        Ok(())
    }

    async fn erase_events(&self, wanted: &Deletion) -> Result<(), EraseError> {
        loop {
            let erased = self.clips.store().erase_events(wanted).await?;
            if erased.ids.is_empty() {
                return Ok(());
            }
            self.clips.remove(erased.files).await;
            (self.on_erased)(&erased.ids);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn note_copies(&self, wanted: &Deletion, copies: u64) -> Result<(), StoreError> {
        if copies == 0 {
            return Ok(());
        }
        let counts = DeletionCounts { copies, ..DeletionCounts::default() };
        self.clips.store().note_erased(wanted.id, counts).await
    }
}

#[cfg(test)]
mod tests;
