//! Stopping: the first SIGTERM or Ctrl-C asks everybody to finish, the second ends the process at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
pub use tokio_util::sync::CancellationToken;

/// How long a daemon may take to stop before it exits anyway. systemd's `TimeoutStopSec` is above it.
pub const STOP_DEADLINE: Duration = Duration::from_millis(4500);

/// Exit code of a process that a second signal ended: 128 + SIGINT.
const EXIT_SECOND_SIGNAL: i32 = 130;

/// A token that is cancelled by the first SIGTERM or SIGINT. Must be called within a tokio runtime.
///
/// # Errors
/// When the signal handlers cannot be installed.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("second signal, exiting at once");
        std::process::exit(EXIT_SECOND_SIGNAL);
    });
    Ok(token)
}
