//! What both daemons of Meowlink need and do in the same way: logs, stopping, systemd, config files, listening
//! addresses, calls, metrics, back-off, causes of errors in plain words, and limits of rates.

pub mod accept;
pub mod allowance;
pub mod backoff;
pub mod bearer;
pub mod call;
pub mod cause;
pub mod config;
pub mod connections;
pub mod control;
pub mod descriptors;
#[cfg(feature = "develop")]
pub mod develop;
pub mod grpc;
pub mod identity;
pub mod listen;
pub mod logs;
pub mod metrics;
pub mod opening;
pub mod pairing;
pub mod private;
pub mod quiet;
pub mod quota;
pub mod serde_words;
pub mod shutdown;
pub mod systemd;
pub mod terminal;
pub mod tls;
pub mod url;

/// Exit code for bad usage or a bad config: `EX_USAGE` of sysexits.h.
pub const EXIT_USAGE: u8 = 64;

/// Exit code for a failure while the daemon runs.
pub const EXIT_FAILURE: u8 = 1;
