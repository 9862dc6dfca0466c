//! Notifies systemd: ready, stopping, alive. All of it does nothing if systemd did not start the process.

use std::path::PathBuf;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

use crate::config::Variables;

/// Reports that the daemon serves, with a line for `systemctl status`.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Sets the line that `systemctl status` shows.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// Reports that the daemon has begun to stop.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Reports that the daemon is working. Call it only when the work advances: the watchdog restarts a daemon that still
/// runs but does nothing.
pub fn feed_watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often to call [`feed_watchdog`]: every third of `WatchdogSec`. `None`: the watchdog is off.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 3)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "cannot notify systemd");
    }
}

/// The variable by which systemd names the folder of a service.
pub const STATE_VARIABLE: &str = "STATE_DIRECTORY";

/// The state folder that systemd gives a service (`StateDirectory=`; the first, if there are several). `None`: the
/// program does not run under systemd, or its unit has none.
pub fn state_folder(variables: &Variables) -> Option<PathBuf> {
    let folders = variables.get(STATE_VARIABLE)?.to_str()?;
    folders.split(':').next().map(PathBuf::from).filter(|folder| folder.is_absolute())
}
