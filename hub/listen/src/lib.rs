//! Live listening to every node, and analyses on demand.
//!
//! ```text
//! node -> subscriber (task per node) -> queue -> worker (thread per core) -> queue -> recorder (task)
//! recorder -> store, clips, news
//! ```
//!
//! Each stage waits while the next one is full, back to the node, which keeps the audio on its tape meanwhile. Audio
//! that is lost nevertheless is recorded as a gap with a reason. Watermarks are stored together with events, so a hub
//! that is killed at any moment resumes without missing or duplicating an event.

pub mod analysis;
pub mod clock;
mod config;
pub mod ear;
pub mod fill;
mod joiner;
mod listening;
pub mod live;
pub mod monitor;
mod past;
mod patience;
mod recorder;
pub mod recover;
pub mod rehear;
mod ring;
pub mod sequencer;
mod subscriber;
mod worker;

pub use config::{AudioEncoding, EventsConfig, ListenConfig, Settings};
pub use listening::Listening;
pub use live::Live;
pub use recorder::REMEMBER_DELETED_DAYS;
