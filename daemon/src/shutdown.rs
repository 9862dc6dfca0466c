//! Stopping: the first SIGTERM or SIGINT (Ctrl-C) asks all tasks to finish, the second ends the process at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
pub use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a daemon may take to stop before it exits anyway. `TimeoutStopSec` in the systemd units is longer.
pub const STOP_DEADLINE: Duration = Duration::from_millis(4500);

/// Exit code after the second signal: 128 + SIGINT.
const EXIT_SECOND_SIGNAL: i32 = 130;

/// Gives a token that the first SIGTERM or SIGINT cancels. Must be called within a tokio runtime.
///
/// # Errors
/// If the signal handlers cannot be installed.
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
