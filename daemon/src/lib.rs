//! What both daemons of Meowlink do alike, and nothing else: logs, stopping, systemd, config files, listening addresses,
//! metrics, back-off and rate-limited logging.

pub mod backoff;
pub mod config;
#[cfg(feature = "develop")]
pub mod develop;
pub mod listen;
pub mod logs;
pub mod metrics;
pub mod quiet;
pub mod shutdown;
pub mod systemd;

/// Exit code for bad usage or a bad config (`EX_USAGE` of sysexits).
pub const EXIT_USAGE: u8 = 64;

/// Exit code for a failure at run time.
pub const EXIT_FAILURE: u8 = 1;
