//! What the hub remembers: one SQLite database in the data directory. The only place that speaks SQL.
//!
//! One connection writes, a few read, in WAL mode: readers never wait for the writer. All SQL runs on blocking threads.
//! Times are nanoseconds since 1970 UTC everywhere in here.
//!
//! A killed process loses nothing that was committed. After a power cut, what [`Store::write`] committed in the last
//! moments may be gone (never half of it: SQLite rolls whole transactions back); what [`Store::write_durably`]
//! committed is there, and so is all that was written before it. The difference is one `fsync`, about 4 ms on a good
//! disk and wear on an SD card, so it is kept for what nobody can produce again.

pub mod analyses;
pub mod clips;
mod columns;
mod database;
mod error;
pub mod events;
pub mod flac;
mod migrations;
pub mod notices;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod words;

pub use database::{Access, DATABASE_FILE, Store};
pub use error::{DatabaseError, StoreError};
pub use words::UnknownWord;
