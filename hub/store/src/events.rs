//! Events that live listening found, their clips and labels, and the gaps in the audio.

mod commit;
pub(crate) mod event;
mod false_alarms;
mod labelled;
mod labels;
mod learning;
mod min_score;
mod own_labels;
mod query;
mod recover;
mod reevaluate;
mod released;
mod retention;
mod same_sound;
mod suggest;
pub(crate) mod which_cat;

pub use commit::{Committed, GapReason, NewGap, Progress, Watermark};
pub use event::{Clip, Event, EventClock, FirstAnswer, NewEvent, NoClip, OwnerLabel, SameSound, Suggestion};
pub use false_alarms::FalseAlarms;
pub use labels::LabelChange;
pub use min_score::ScorePreview;
pub use own_labels::{MAX_OWN_LABEL_CHARS, MAX_OWN_LABELS, OwnLabel, OwnLabelError, RemovedOwnLabel};
pub use query::{EventFilter, EventPage, PageCursor, Tally};
pub(crate) use recover::{LoggedLabel, Recovered, RecoveredEvent};
pub use reevaluate::Reevaluation;
pub use retention::{ClipTotals, RetiredClip};
pub use same_sound::KEEP_ENVELOPES_S;
pub use which_cat::{CatNameError, MAX_CAT_BYTES, MAX_NAMED_CATS, NamedCat, SaidCat, checked_cat};

#[cfg(test)]
mod tests;
