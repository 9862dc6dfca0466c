//! Recovers events from the clips in the quarantine, after their database was lost. `hub-listen`'s `recover` does this
//! in the background, because old clips must be heard again.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use daemon::cause::cause;
use daemon::private;
use sound::SAMPLE_RATE_HZ;
use tracing::warn;

use super::config::{MAX_LENGTH_S, MAX_ROLL_MS};
use super::quarantine::original_name;
use super::story::Story;
use super::{ClipFormat, Clips, blocking};
use crate::deletions::{Deletion, Fate};
use crate::error::StoreError;
use crate::events::event::{Clip, Event, NewEvent};
use crate::events::{Recovered, RecoveredEvent};

/// Samples of the longest clip that the config allows.
const MOST_SAMPLES: usize = ((MAX_LENGTH_S * 1_000 + 2 * MAX_ROLL_MS) * (SAMPLE_RATE_HZ / 1_000)) as usize;

/// Size of the largest file that can be a clip, in bytes.
const MOST_BYTES: u64 = 4 * MOST_SAMPLES as u64;

/// A clip whose event may be lost.
#[derive(Debug, Clone, PartialEq)]
pub struct LostClip {
    path: PathBuf,
    /// Its file, as the event will refer to it.
    pub clip: Clip,
    /// Boot id of the node.
    pub boot_id: u64,
    /// The audio.
    pub samples: Vec<i16>,
    /// The event, as the clip describes it. `None`: an earlier version wrote the clip, without a description.
    pub event: Option<NewEvent>,
    /// The id that the node had proved, as the clip says.
    pub node_id: Option<String>,
    /// When the file was written, in nanoseconds since 1970 UTC.
    pub written_at_ns: i64,
}

/// What became of a lost clip.
#[derive(Debug, Clone, PartialEq)]
pub enum BroughtBack {
    /// Its event was lost, and is stored again.
    Event(Box<Event>),
    /// Its event was there without its clip, and has it again.
    Clip,
    /// Its event is there and needs no clip. The file stays in the quarantine.
    NotNeeded,
    /// Its owner had deleted the event. The file is removed.
    Deleted,
}

impl Clips {
    /// The clips from which events are to be recovered, in the order in which they were written.
    ///
    /// # Errors
    /// If the quarantine cannot be read.
    pub async fn lost(&self) -> std::io::Result<Vec<PathBuf>> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let mut lost = Vec::new();
            for path in inner.quarantine.to_recover()? {
                lost.push((std::fs::metadata(&path)?.modified()?, path));
            }
            lost.sort();
            Ok(lost.into_iter().map(|(_, path)| path).collect())
        })
        .await
    }

    /// Removes the clips of the quarantine that this deletion is about. Returns how many. A clip without a description
    /// names no cat, so only a deletion of everything before a time removes it, by the time of its file. The cat that
    /// an owner named for an event is also that of its clip. Clips that were written after the request stay.
    ///
    /// # Errors
    /// If the quarantine cannot be read or changed.
    pub(crate) async fn erase_quarantined(&self, wanted: &Deletion) -> std::io::Result<u64> {
        let inner = Arc::clone(&self.inner);
        let said = if wanted.of_cat { self.inner.store.logged_cats().await? } else { HashMap::new() };
        let mut erased = 0;
        for path in blocking(move || inner.quarantine.all()).await? {
            let file = path.clone();
            // One at a time: the quarantine may hold gigabytes, and others want the disk too.
            let (written_at_ns, described) = match blocking(move || described(file)).await {
                // A recovery or the tidying took it.
                Err(missing) if missing.kind() == ErrorKind::NotFound => continue,
                other => other?,
            };
            let is_wanted = match described {
                Some(event) => self.is_wanted(wanted, &event, &said).await.map_err(std::io::Error::other)?,
                None => !wanted.of_cat && wanted.covers("", written_at_ns),
            };
            if !is_wanted || written_at_ns > wanted.requested_at_ns {
                continue;
            }
            erased += blocking(move || match std::fs::remove_file(&path) {
                Err(missing) if missing.kind() == ErrorKind::NotFound => Ok(0),
                other => other.map(|()| 1),
            })
            .await?;
        }
        Ok(erased)
    }

    /// Whether a deletion is about the event of a quarantined clip. If it is about a cat, the database knows best, then
    /// the log of labels, then the clip.
    async fn is_wanted(
        &self,
        wanted: &Deletion,
        event: &NewEvent,
        said: &HashMap<(u64, u64), String>,
    ) -> Result<bool, StoreError> {
        let place = (event.boot_id, event.start_sample);
        if wanted.of_cat {
            match self.inner.store.fates(wanted, vec![place]).await?.first() {
                Some(Fate::Erased) => return Ok(true),
                Some(Fate::Kept) => return Ok(false),
                Some(Fate::Unknown) | None => {}
            }
        }
        Ok(wanted.covers(said.get(&place).unwrap_or(&event.cat), event.started_at_ns))
    }

    /// Whether a recovery has not ended yet.
    ///
    /// # Errors
    /// If the quarantine cannot be read.
    pub async fn must_recover(&self) -> std::io::Result<bool> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.quarantine.has_to_recover()).await
    }

    /// Reads a lost clip. `None`: the file is damaged or not a clip, and stays in the quarantine.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn examine(&self, path: &Path) -> std::io::Result<Option<LostClip>> {
        let path = path.to_path_buf();
        blocking(move || examine(path)).await
    }

    /// Stores the event of a lost clip as recovered, and takes the clip out of the quarantine. Nobody is notified.
    ///
    /// # Errors
    /// See [`StoreError`]. The clip then stays in the quarantine.
    pub async fn bring_back(&self, lost: LostClip, event: NewEvent) -> Result<BroughtBack, StoreError> {
        let store = &self.inner.store;
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |error| StoreError::Directory { path, error }
        };
        let (from, to) = (lost.path, self.inner.directory.join(&lost.clip.file));
        let unusable = failed(&from);
        match store.how_known(&event).await? {
            RecoveredEvent::Deleted => {
                blocking(move || std::fs::remove_file(&from)).await.map_err(unusable)?;
                return Ok(BroughtBack::Deleted);
            }
            RecoveredEvent::Complete => return Ok(BroughtBack::NotNeeded),
            RecoveredEvent::Unknown | RecoveredEvent::WithoutClip(_) => {}
        }
        let (out, back) = ((from.clone(), to.clone()), (to, from));
        let moved = blocking(move || {
            let (from, to) = out;
            // Listening may have stored this clip in the meantime.
            if to.try_exists()? {
                return Ok(false);
            }
            private::move_file(&from, &to).map(|()| true)
        });
        if !moved.await.map_err(unusable)? {
            return Ok(BroughtBack::NotNeeded);
        }
        // If listening stored the event just now, the next start sets the file aside again.
        let committed = match store.commit_recovered(event, lost.node_id, lost.clip).await {
            Ok(committed) => committed,
            Err(error) => {
                let returned = blocking(move || private::move_file(&back.0, &back.1)).await;
                if let Err(error) = returned {
                    let error = cause(&error);
                    warn!(error, "a clip without an event cannot go back to the quarantine; the next start moves it");
                }
                return Err(error);
            }
        };
        match committed {
            Recovered::Event(event) => {
                self.stored(event.id).await;
                Ok(BroughtBack::Event(event))
            }
            Recovered::Clip => Ok(BroughtBack::Clip),
            Recovered::Nothing => Ok(BroughtBack::NotNeeded),
        }
    }

    /// Ends the recovery: what is still in the quarantine cannot be recovered, and is deleted later. `failed`: clips
    /// that an error kept from being recovered. The next starts try the folders of these again, up to ten times.
    ///
    /// # Errors
    /// If the quarantine cannot be changed.
    pub async fn end_recovery(&self, failed: Vec<PathBuf>) -> std::io::Result<()> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.quarantine.recovered(&failed)).await
    }
}

/// When a file of the quarantine was written, and the event that it describes, if it is a clip and describes one.
fn described(path: PathBuf) -> std::io::Result<(i64, Option<NewEvent>)> {
    let written = std::fs::metadata(&path)?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let written_at_ns = i64::try_from(written.as_nanos()).unwrap_or(i64::MAX);
    Ok((written_at_ns, examine(path)?.and_then(|lost| lost.event)))
}

fn examine(path: PathBuf) -> std::io::Result<Option<LostClip>> {
    let Some((name, (boot_id, start_sample))) = path
        .file_name()
        .and_then(|name| name.to_str())
        .map(original_name)
        .and_then(|name| Some((name.to_owned(), named(name)?)))
    else {
        return Ok(None);
    };
    let mut file = std::fs::File::open(&path)?;
    let about = file.metadata()?;
    let mut bytes = Vec::new();
    file.by_ref().take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    let Some(content) = ClipFormat::of(&name).decode(&bytes, MOST_SAMPLES).filter(|read| !read.samples.is_empty())
    else {
        return Ok(None);
    };
    let story = Story::read(&content.comment);
    if story.as_ref().is_some_and(|story| !story.is_about(&content.samples)) {
        return Ok(None);
    }
    let written = about.modified()?.duration_since(UNIX_EPOCH).map_err(|_| ErrorKind::InvalidData)?;
    let start_sample = story.as_ref().map_or(start_sample, |story| story.clip_start_sample);
    Ok(Some(LostClip {
        path,
        clip: Clip { file: name, bytes: about.len(), start_sample, samples: content.samples.len() as u64 },
        boot_id: story.as_ref().map_or(boot_id, |story| story.event.boot_id),
        samples: content.samples,
        node_id: story.as_ref().and_then(|story| story.node_id.clone()),
        event: story.map(|story| story.event),
        written_at_ns: i64::try_from(written.as_nanos()).unwrap_or(i64::MAX),
    }))
}

/// Boot id and first sample, by the name of a clip file. `None` if it is not named like a clip.
fn named(file: &str) -> Option<(u64, u64)> {
    let (boot_id, start_sample) = file.split_once('.')?.0.split_once('-')?;
    let is_boot_id = boot_id.len() == 16;
    Some((u64::from_str_radix(boot_id, 16).ok().filter(|_| is_boot_id)?, start_sample.parse().ok()?))
}
