//! What systemd is told: ready, stopping, alive. All of it does nothing when systemd did not start the process.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The daemon serves.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// One line for `systemctl status`.
pub fn status(status: &str) {
    send(&[NotifyState::Status(status)]);
}

/// The daemon has begun to stop.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// The daemon does its work. Call it only when the work advances: a daemon that merely runs is what the watchdog is for.
pub fn feed_watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// How often to call [`feed_watchdog`]: a third of `WatchdogSec`. `None`: the watchdog is off.
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 3)
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd was not notified");
    }
}
