//! How many clients may do at the same time what takes long.

use hub_base::places::Places;

/// Streams that are open at the same time. Further ones get 429.
pub(super) const MAX_STREAMS: usize = 128;

/// Live streams of sound that are open at the same time. Further ones get 429: each is a subscriber of a node, which
/// has few places.
pub(super) const MAX_SOUND_STREAMS: usize = 8;

/// Pictures that are drawn at the same time; each takes a core for tens of milliseconds. Others wait.
pub(super) const MAX_DRAWINGS: usize = 2;

/// What only a few clients may do at the same time. Clones share the places.
#[derive(Debug, Clone)]
pub struct Limits {
    pub(super) news: Places,
    pub(super) sound: Places,
    pub(super) drawings: Places,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            news: Places::new(MAX_STREAMS),
            sound: Places::new(MAX_SOUND_STREAMS),
            drawings: Places::new(MAX_DRAWINGS),
        }
    }
}
