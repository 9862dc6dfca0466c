//! The hub daemon of Meowlink: Owner, dog, cat analysis and the HTTP gateway, in one process or in several.

pub mod store;
