//! Looks after the node: tells systemd and gRPC health how it fares.

use std::sync::Arc;
use std::time::Duration;

use daemon::shutdown::CancellationToken;
use daemon::systemd;
use proto::SourceState;
use proto::cat_server::SERVICE_NAME;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tracing::warn;

use crate::clock::NodeClock;
use crate::status::Status;

/// How often the state is looked at, and so how late health may tell of it.
const PERIOD: Duration = Duration::from_millis(500);

/// A capture thread that did not say for so long that it is at work is stuck. Opening a microphone may block it for some
/// seconds; nothing it does takes longer.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Watches until `stop`.
///
/// The watchdog of systemd is fed as long as the capture thread is at work. That is while frames advance, and also while it
/// looks for a microphone that is not there: a restart would not bring that back, and would cost the tape. A thread that is
/// stuck starves the watchdog.
///
/// Health: the empty name, which stands for the process, is serving; `proto.cat` is not while there is no audio to be had.
pub async fn watch(status: Arc<Status>, clock: NodeClock, health: HealthReporter, stop: CancellationToken) {
    let feed_every = systemd::watchdog_interval();
    let mut fed_at = Instant::now();
    let mut told = None;
    let mut stuck = false;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return health.set_service_status(SERVICE_NAME, ServingStatus::NotServing).await,
        }
        let silent_for = Duration::from_nanos(clock.now_ns().saturating_sub(status.last_beat_ns()));
        if (silent_for > STUCK_AFTER) != stuck {
            stuck = !stuck;
            if stuck {
                warn!(seconds = silent_for.as_secs(), "capture thread is stuck");
            }
        }
        if let Some(feed_every) = feed_every
            && !stuck
            && fed_at.elapsed() >= feed_every
        {
            fed_at = Instant::now();
            systemd::feed_watchdog();
        }
        let state = status.state();
        if told != Some(state) {
            told = Some(state);
            health.set_service_status(SERVICE_NAME, serving(state)).await;
            systemd::status(&in_words(&status));
        }
    }
}

fn serving(state: SourceState) -> ServingStatus {
    match state {
        SourceState::NoDevice | SourceState::Ended => ServingStatus::NotServing,
        SourceState::Unspecified | SourceState::Starting | SourceState::Capturing | SourceState::Silent => {
            ServingStatus::Serving
        }
    }
}

/// One line for `systemctl status`.
fn in_words(status: &Status) -> String {
    let source = status.source();
    let state = match source.state {
        SourceState::Unspecified | SourceState::Starting => "opening",
        SourceState::Capturing => "capturing from",
        SourceState::Silent => "only zeros from",
        SourceState::NoDevice => "NO AUDIO from",
        SourceState::Ended => "at the end of",
    };
    let colon = if source.detail.is_empty() { "" } else { ": " };
    format!("{state} {} {}{colon}{}", source.kind, source.device, source.detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_audio_is_not_serving() {
        assert_eq!(serving(SourceState::NoDevice), ServingStatus::NotServing);
        assert_eq!(serving(SourceState::Ended), ServingStatus::NotServing);
        assert_eq!(serving(SourceState::Capturing), ServingStatus::Serving);
    }

    #[test]
    fn systemd_is_told_what_is_wrong() {
        let status = Status::new("microphone");
        status.set_state(SourceState::NoDevice, "unplugged");
        assert_eq!(in_words(&status), "NO AUDIO from microphone : unplugged");
    }
}
