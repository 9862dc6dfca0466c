//! Owners: who is notified of what the animals do, when, and how.
//!
//! ```text
//! event (recorder) ──┐                                                   ┌─> log
//! Notify (service) ──┼─> rules ─> outbox (store) ─> a task per channel ──┼─> webhook, ntfy
//! node (troubles) ───┘                │    ^                             │
//!                                     └────┘ digests                     └─> mqtt ─> broker
//! live updates (listen) ────────────────────────────────> homeassistant ──────┘
//! ```
//!
//! A notification is stored in the transaction of what it is about. The process with the owner role delivers it, with
//! one task per channel, at least once and always with the same idempotency key.

pub mod channels;
pub mod client;
mod clock;
pub mod config;
pub mod delivery;
pub mod dispatch;
mod message;
mod moment;
pub mod mqtt;
pub mod outbox;
mod rules;
mod secret;
pub mod service;
mod tls;
mod values;

pub use message::event_url;
pub use outbox::Outbox;
pub use service::OwnerService;
