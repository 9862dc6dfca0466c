//! Owners: who is told what the animals say, when, and how.
//!
//! ```text
//! event (recorder) ─┐                                                  ┌─> log
//! Notify (service) ─┼─> rules ─> outbox (store) ─> a task a channel ───┼─> webhook, ntfy
//! trouble (nodes) ──┘                  │                               │
//!                                     └─> digests ─┘                   └─> mqtt ─> broker
//! news (listen) ──────────────────────────────────────> homeassistant ─────┘
//! ```
//!
//! What is to be told is stored in the transaction of what it is about. The process with the owner role tells it, by one
//! task a channel, at least once and always with the same key.

pub mod channels;
pub mod config;
pub mod dispatch;
mod message;
pub mod mqtt;
pub mod outbox;
mod rules;
pub mod service;
mod tls;

pub use message::event_url;
pub use outbox::Outbox;
pub use service::OwnerService;
