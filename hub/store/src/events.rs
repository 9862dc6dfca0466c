//! Events: what listening found, its clips and gaps, and what the owner says about it.

mod commit;
pub(crate) mod event;
mod labels;
mod learning;
mod query;
mod retention;

pub use commit::{Committed, GapReason, NewGap, Progress, Watermark};
pub use event::{Clip, Event, EventClock, NewEvent, NoClip, OwnerLabel};
pub use labels::Saying;
pub use query::{EventFilter, EventPage, PageCursor, Tally};
pub use retention::{ClipTotals, RetiredClip};

#[cfg(test)]
mod tests;
