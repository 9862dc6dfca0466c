//! The hub's storage: one SQLite database and the clip files, both in the data directory. No other crate uses SQL.
//!
//! One connection writes and a few read, in WAL mode, so readers never wait for the writer. All SQL runs on blocking
//! threads. All times are nanoseconds since 1970 UTC.
//!
//! If the process is killed, nothing that was committed is lost. After a power cut, the last transactions of
//! [`Store::write`] may be missing, but never a part of one, because SQLite rolls whole transactions back. A
//! transaction of [`Store::write_durably`] survives a power cut, and so do all transactions before it. It costs one
//! `fsync`: about 4 ms on a good disk, and wear on an SD card. Use it only for data that cannot be produced a second
//! time.

mod admission_log;
mod admitted;
pub mod analyses;
pub mod backup;
pub mod clips;
mod columns;
mod database;
mod deletion_request;
pub mod deletions;
mod eraser;
mod error;
pub mod events;
pub mod flac;
mod health;
mod identity;
mod label_log;
mod migrations;
mod moved_history;
mod node_columns;
mod nodes;
pub mod notifications;
mod paired;
pub mod people;
mod people_mark;
mod replaced;
mod salvage;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod waker;
mod words;

pub use admitted::{Admitted, MAX_ADMITTED};
pub use database::{Access, DATABASE_FILE, Store};
pub use eraser::Eraser;
pub use error::{DatabaseError, StoreError, Trouble};
pub use events::MAX_CAT_BYTES;
pub use moved_history::HistoryMove;
pub use nodes::{KnownBy, KnownNode, SeenNode};
pub use paired::{MAX_PAIRED, PairedNode};
pub use replaced::{Moved, Replaced, Replacement};
pub use words::UnknownWord;
