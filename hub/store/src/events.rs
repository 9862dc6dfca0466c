//! Events that live listening found, their clips and labels, and the gaps in the audio.

mod commit;
pub(crate) mod event;
mod false_alarms;
mod labelled;
mod labels;
mod learning;
mod query;
mod recover;
mod released;
mod retention;

pub use commit::{Committed, GapReason, NewGap, Progress, Watermark};
pub use event::{Clip, Event, EventClock, NewEvent, NoClip, OwnerLabel};
pub use false_alarms::FalseAlarms;
pub use labels::LabelChange;
pub use query::{EventFilter, EventPage, PageCursor, Tally};
pub(crate) use recover::{LoggedLabel, Recovered, RecoveredEvent};
pub use retention::{ClipTotals, RetiredClip};

#[cfg(test)]
mod tests;
