//! Limits on requests that take long.

use hub_base::places::Places;

use crate::listeners::Listeners;

/// Longest accepted body of a request, in bytes. Longer ones are answered with 413.
pub(super) const MAX_BODY_BYTES: usize = 64 << 10;

/// Most update streams (server-sent events) that are open at the same time. Further requests are answered with 429.
pub(super) const MAX_UPDATE_STREAMS: usize = 128;

/// Most live audio streams that are open at the same time. Further requests are answered with 429: each stream is a
/// subscriber of a node, and a node admits only a few.
pub(super) const MAX_LIVE_STREAMS: usize = 8;

/// Most spectrograms that are drawn at the same time. Further requests wait: each one uses a core for tens of
/// milliseconds.
pub(super) const MAX_DRAWINGS: usize = 2;

/// Most archives of clips that are sent at the same time. Further requests are answered with 429: each one reads and
/// compresses all its clips.
pub(super) const MAX_ARCHIVES: usize = 2;

/// Most events in an archive of clips. A request for more is answered with 400. The table of an archive is held in
/// memory until its end: 5 MB for this many events.
pub(super) const MAX_ARCHIVE_EVENTS: usize = 10_000;

/// Places for requests that take long. Clones share the places.
#[derive(Debug, Clone)]
pub struct Limits {
    pub(super) updates: Places,
    pub(super) live_audio: Places,
    /// Those who have the places for live audio.
    pub(super) listeners: Listeners,
    pub(super) drawings: Places,
    pub(super) archives: Places,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            updates: Places::new(MAX_UPDATE_STREAMS),
            live_audio: Places::new(MAX_LIVE_STREAMS),
            listeners: Listeners::default(),
            drawings: Places::new(MAX_DRAWINGS),
            archives: Places::new(MAX_ARCHIVES),
        }
    }
}
