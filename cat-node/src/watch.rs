//! Watches the node, and reports its state to systemd and to the gRPC health service.

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

/// How often the state is checked, and so how late the health service may be.
const PERIOD: Duration = Duration::from_millis(500);

/// A capture thread that has not beaten for this long is stuck. Opening a microphone may block it for some seconds;
/// nothing else that it does takes longer.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Watches until `stop`.
///
/// The watchdog of systemd is fed while the capture thread works: while it captures, and also while it looks for a
/// microphone that is not there, because a restart would not bring the microphone back and would lose the tape. When
/// the thread is stuck, the watchdog is not fed, and systemd restarts the node.
///
/// Health: the empty name, which means the process, is always serving. `proto.cat` is serving unless there is no audio.
pub async fn watch(status: Arc<Status>, clock: NodeClock, health: HealthReporter, stop: CancellationToken) {
    let feed_every = systemd::watchdog_interval();
    let mut fed_at = Instant::now();
    let mut reported = None;
    let mut stuck = false;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return health.set_service_status(SERVICE_NAME, ServingStatus::NotServing).await,
        }
        let since_beat = Duration::from_nanos(clock.now_ns().saturating_sub(status.last_beat_ns()));
        if (since_beat > STUCK_AFTER) != stuck {
            stuck = !stuck;
            if stuck {
                warn!(seconds = since_beat.as_secs(), "the capture thread is stuck");
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
        if reported != Some(state) {
            reported = Some(state);
            health.set_service_status(SERVICE_NAME, serving(state)).await;
            systemd::status(&status_line(&status));
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

/// The state in one line, for `systemctl status`.
fn status_line(status: &Status) -> String {
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
    fn status_line_says_what_is_wrong() {
        let status = Status::new("microphone");
        status.set_state(SourceState::NoDevice, "unplugged");
        assert_eq!(status_line(&status), "NO AUDIO from microphone : unplugged");
    }
}
