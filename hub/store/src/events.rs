//! Events that live listening found, their clips and labels, and the gaps in the audio.

mod commit;
pub(crate) mod event;
mod labelled;
mod labels;
mod learning;
mod query;
mod recover;
mod released;
mod retention;
mod same_sound;

pub use commit::{Committed, GapReason, NewGap, Progress, Watermark};
pub use event::{Clip, Event, EventClock, NewEvent, NoClip, OwnerLabel, SameSound};
pub use labels::LabelChange;
pub use query::{EventFilter, EventPage, PageCursor, Tally};
pub(crate) use recover::{LoggedLabel, Recovered, RecoveredEvent};
pub use retention::{ClipTotals, RetiredClip};
pub use same_sound::KEEP_ENVELOPES_S;

#[cfg(test)]
mod tests;
