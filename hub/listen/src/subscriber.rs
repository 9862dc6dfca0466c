//! The task that listens to one node: connects, resumes, reconnects, and passes the audio on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::error::{Code, Error, Who};
use hub_base::time::now_ns;
use hub_nodes::{Node, Nodes};
use proto::{DescribeResponse, ListenRequest, ListenResponse};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tonic::{Request, Streaming};
use tracing::{info, warn};

use super::live::{Live, NodeState, WatchedNode};
use super::sequencer::{Heard, Lost, Sequencer};
use super::worker::{Audio, Work};

/// First and longest wait before a node that was lost is tried again.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How long a node may take to begin the stream.
const LISTEN_DEADLINE: Duration = Duration::from_secs(3);

/// How often a node is asked for the time by its clock while it streams: clocks drift apart by seconds a day. It shows too
/// whether a node that sends nothing is still there.
const DESCRIBE_PERIOD: Duration = Duration::from_secs(30);

/// A node that sends nothing for so long is quiet: what waits for more audio does not wait any longer.
const QUIET_AFTER: Duration = Duration::from_secs(3);

/// How often the same failure of a node is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

const FRAME_NS: u64 = proto::FRAME_MS as u64 * 1_000_000;

/// Listens to one node.
pub(super) struct Subscriber {
    pub(super) number: usize,
    pub(super) node: Node,
    pub(super) nodes: Nodes,
    pub(super) watched: Arc<WatchedNode>,
    pub(super) sequencer: Sequencer,
    pub(super) frame_ms: u32,
    pub(super) encoding: proto::Encoding,
    pub(super) max_lag: Duration,
    pub(super) work: mpsc::Sender<Work>,
    pub(super) live: Live,
    pub(super) stop: CancellationToken,
}

/// Why a session with a node ended.
enum Ended {
    /// The hub stops, or the analysis is gone.
    Stop,
    /// The node is lost, after it had sent something or before.
    Lost { error: Error, had_sent: bool },
}

/// A node's clock as seen from here.
#[derive(Debug, Clone, Copy)]
struct NodeClock {
    /// When the node said so.
    asked: Instant,
    /// How long it had run then.
    uptime: Duration,
    /// Its start by the hub's wall clock, in nanoseconds since 1970 UTC.
    hub_start_unix_ns: i64,
}

impl Subscriber {
    /// Listens until the stop.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        let mut quiet = Quiet::new(LOG_PERIOD);
        loop {
            let Ended::Lost { error, had_sent } = self.session().await else { return };
            if had_sent {
                backoff.reset();
                quiet.reset();
            }
            self.watched.lock().disconnects += 1;
            self.live.set_state(&self.watched, NodeState::Away, &error.message);
            if let Some(held_back) = quiet.allow() {
                warn!(node = self.node.url(), code = error.code.as_str(), %error, held_back, "not listening");
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = self.stop.cancelled() => return,
            }
            // A full queue is not quiet.
            let weight = self.live.audio_fill.weigh(0);
            let quiet =
                Audio { node: self.number, heard: Heard::Quiet, captured: None, hub_start_unix_ns: 0, _weight: weight };
            if matches!(self.work.try_send(Work::Audio(quiet)), Err(TrySendError::Closed(_))) {
                return;
            }
        }
    }

    /// Connects and listens until one side ends it.
    async fn session(&mut self) -> Ended {
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = self.stop.cancelled() => return Ended::Stop,
        };
        let (description, mut stream) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ended::Lost { error, had_sent: false },
        };
        info!(
            node = self.node.url(),
            cat = description.cat_name,
            boot_id = format!("{:016x}", description.boot_id),
            from = self.sequencer.cursor().sequence,
            "listening"
        );
        let mut clock = NodeClock::of(&description);
        let mut patience = Patience::new(self.max_lag, self.behind(&description), Instant::now());
        let mut had_sent = false;
        let mut messages = Vec::new();
        let mut ask = tokio::time::interval(DESCRIBE_PERIOD);
        ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ask.reset();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ended::Stop,
                message = tokio::time::timeout(QUIET_AFTER, stream.message()) => match message {
                    Ok(Ok(Some(message))) => {
                        had_sent = true;
                        self.sequencer.take(message, |heard| messages.push(heard));
                        self.watched.lock().duplicate_frames = self.sequencer.duplicates();
                    }
                    Ok(Ok(None)) => {
                        let error = Error::new(Code::Unavailable(Who::Node), "the node ended the stream");
                        return Ended::Lost { error, had_sent };
                    }
                    Ok(Err(status)) => {
                        return Ended::Lost { error: Error::from_status(Who::Node, &status), had_sent };
                    }
                    Err(_) => {
                        self.live.set_state(&self.watched, NodeState::Quiet, "");
                        messages.push(Heard::Quiet);
                    }
                },
                _ = ask.tick() => match self.describe().await {
                    Ok(description) => {
                        clock = NodeClock::of(&description);
                        patience.look_again(self.behind(&description), Instant::now());
                    }
                    Err(error) => return Ended::Lost { error, had_sent },
                },
            }
            for heard in messages.drain(..) {
                if !self.pass_on(heard, &clock, &mut patience).await {
                    return Ended::Stop;
                }
            }
        }
    }

    async fn open(&self) -> Result<(DescribeResponse, Streaming<ListenResponse>), Error> {
        let description = self.describe().await?;
        let (frame_ms, encoding) = (self.frame_ms, self.encoding as i32);
        let request = ListenRequest { frame_ms, from: Some(self.sequencer.cursor()), encoding };
        // No timeout on the request: it would end the stream.
        let mut client = self.node.client();
        let call = client.listen(Request::new(request));
        Ok((description, self.node.ask("listen", LISTEN_DEADLINE, call).await?))
    }

    /// What the node says of itself. An error too when it turns out to be one that is listened to under another name.
    async fn describe(&self) -> Result<DescribeResponse, Error> {
        let description = self.node.describe().await?;
        match self.nodes.twin_of(&self.node) {
            Some(twin) => {
                Err(Error::new(Code::Unavailable(Who::Node), format!("it is the same node as {}", twin.url())))
            }
            None => Ok(description),
        }
    }

    /// How much audio the node has kept for this hub.
    fn behind(&self, description: &DescribeResponse) -> Duration {
        let tape = description.tape.unwrap_or_default();
        let cursor = self.sequencer.cursor();
        let known = if cursor.boot_id == description.boot_id { cursor.sequence } else { 0 };
        let frames = tape.next_sequence.saturating_sub(known.max(tape.oldest_sequence));
        Duration::from_nanos(frames.saturating_mul(FRAME_NS))
    }

    /// Passes on what was heard, or skips it when the analysis is too far behind. `false`: the analysis is gone.
    async fn pass_on(&self, heard: Heard, clock: &NodeClock, patience: &mut Patience) -> bool {
        let (captured, lag) = match &heard {
            Heard::Frames(frames) => {
                let length = Duration::from_nanos((frames.samples.len() / proto::FRAME_SAMPLES) as u64 * FRAME_NS);
                let since_start = Duration::from_nanos(frames.captured_monotonic_ns).saturating_add(length);
                let lag = (clock.uptime + clock.asked.elapsed()).saturating_sub(since_start);
                (Instant::now().checked_sub(lag), lag)
            }
            Heard::Lost(_) | Heard::Quiet => (None, Duration::ZERO),
        };
        let lag = patience.receive(&heard, lag, Instant::now());
        if patience.skips(&heard, lag) {
            return true;
        }
        if let Some(skipped) = patience.take_skipped() {
            let audio = self.audio_of(Heard::Lost(skipped), None, clock);
            if !self.send(audio).await {
                return false;
            }
        }
        let audio = self.audio_of(heard, captured, clock);
        match self.work.try_reserve() {
            Ok(place) => {
                place.send(Work::Audio(audio));
                patience.passed(lag);
                true
            }
            Err(TrySendError::Full(())) => {
                if patience.is_over(lag, Instant::now()) && patience.skip_from(&audio.heard) {
                    warn!(node = self.node.url(), lag_ms = lag.as_millis() as u64, "overloaded, skipping audio");
                    return true;
                }
                self.send(audio).await
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }

    fn audio_of(&self, heard: Heard, captured: Option<Instant>, clock: &NodeClock) -> Audio {
        let samples = if let Heard::Frames(frames) = &heard { frames.samples.len() } else { 0 };
        let weight = self.live.audio_fill.weigh(samples * size_of::<i16>());
        Audio { node: self.number, heard, captured, hub_start_unix_ns: clock.hub_start_unix_ns, _weight: weight }
    }

    async fn send(&self, audio: Audio) -> bool {
        tokio::select! {
            sent = self.work.send(Work::Audio(audio)) => sent.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }
}

impl NodeClock {
    fn of(description: &DescribeResponse) -> Self {
        let uptime = Duration::from_nanos(description.uptime_ns);
        let uptime_ns = i64::try_from(description.uptime_ns).unwrap_or(i64::MAX);
        Self { asked: Instant::now(), uptime, hub_start_unix_ns: now_ns().saturating_sub(uptime_ns) }
    }
}

/// When audio is skipped because the analysis cannot keep up: when its queue is full although it has fallen further behind
/// than it may. While a node sends what it kept during an outage, it may be behind as far as it was, less half of the
/// time since: catching up must go at one and a half times real time at least. What is skipped is one stretch, until
/// the audio is nearly live, for the sake of the sound before and after it.
///
/// The lag is the smaller of two: by the node's clock, and by the numbers of its frames. So a clock that jumps, or a device
/// that delivers nothing for an hour, is not taken for an overload.
#[derive(Debug)]
struct Patience {
    max_lag: Duration,
    started: Instant,
    behind_at_start: Duration,
    looked: Instant,
    behind: Duration,
    /// Audio and gaps since `looked`.
    received: Duration,
    skipped: Option<Lost>,
}

/// Skipping goes on until the lag is this part of what is allowed.
const SKIP_DOWN_TO: u32 = 4;

impl Patience {
    /// At the start of a session with a node that has kept so much audio.
    fn new(max_lag: Duration, behind: Duration, now: Instant) -> Self {
        Self {
            max_lag,
            started: now,
            behind_at_start: behind,
            looked: now,
            behind,
            received: Duration::ZERO,
            skipped: None,
        }
    }

    /// The node has said anew how much it has kept.
    fn look_again(&mut self, behind: Duration, now: Instant) {
        (self.looked, self.behind, self.received) = (now, behind, Duration::ZERO);
    }

    /// Notes what has come, and how old it is by the node's clock; says how old it is to be taken for.
    fn receive(&mut self, heard: &Heard, lag_by_clock: Duration, now: Instant) -> Duration {
        self.received = self.received.saturating_add(Duration::from_nanos(frame_count(heard).saturating_mul(FRAME_NS)));
        let lag_by_number = (self.behind + now.duration_since(self.looked)).saturating_sub(self.received);
        lag_by_clock.min(lag_by_number)
    }

    /// Whether audio of that age is older than it may be.
    fn is_over(&self, lag: Duration, now: Instant) -> bool {
        let catching_up = (self.behind_at_start + self.max_lag).saturating_sub(now.duration_since(self.started) / 2);
        lag > self.max_lag.max(catching_up)
    }

    /// Begins to skip with this. `false`: it is no audio, and must be passed on.
    fn skip_from(&mut self, heard: &Heard) -> bool {
        let Heard::Frames(frames) = heard else { return false };
        self.skipped = Some(Lost::skipped(frames.boot_id, frames.sequence, frame_count(heard)));
        true
    }

    /// Whether this is skipped too.
    fn skips(&mut self, heard: &Heard, lag: Duration) -> bool {
        let (Some(skipped), Heard::Frames(frames)) = (&mut self.skipped, heard) else { return false };
        if lag <= self.max_lag / SKIP_DOWN_TO || frames.boot_id != skipped.boot_id {
            return false;
        }
        skipped.frame_count = skipped.frame_count.map(|count| count + frame_count(heard));
        true
    }

    /// What was skipped, once it is over.
    fn take_skipped(&mut self) -> Option<Lost> {
        self.skipped.take()
    }

    /// Audio of that age was taken at once: when it is live, the outage is over.
    fn passed(&mut self, lag: Duration) {
        if lag <= self.max_lag {
            self.behind_at_start = Duration::ZERO;
        }
    }
}

fn frame_count(heard: &Heard) -> u64 {
    match heard {
        Heard::Frames(frames) => (frames.samples.len() / proto::FRAME_SAMPLES) as u64,
        Heard::Lost(lost) => lost.frame_count.unwrap_or(0),
        Heard::Quiet => 0,
    }
}

#[cfg(test)]
mod tests {
    use hub_store::events::GapReason;

    use super::*;
    use crate::sequencer::Frames;

    const SECOND: Duration = Duration::from_secs(1);

    fn frames(sequence: u64) -> Heard {
        Heard::Frames(Frames {
            boot_id: 9,
            sequence,
            samples: vec![0; 1_600],
            captured_monotonic_ns: 0,
            captured_unix_ns: None,
        })
    }

    #[test]
    fn one_stretch_is_skipped_until_audio_is_nearly_live() {
        let now = Instant::now();
        let mut patience = Patience::new(20 * SECOND, Duration::ZERO, now);
        assert!(!patience.is_over(19 * SECOND, now));
        assert!(patience.is_over(21 * SECOND, now));
        assert!(patience.skip_from(&frames(100)));
        assert!(patience.skips(&frames(105), 15 * SECOND));
        assert!(patience.skips(&frames(110), 6 * SECOND));
        assert!(!patience.skips(&frames(115), 4 * SECOND));
        let skipped = patience.take_skipped().unwrap();
        assert_eq!((skipped.first_sequence, skipped.frame_count), (100, Some(15)));
        assert_eq!(skipped.reason, GapReason::HubOverloaded);
        assert_eq!(patience.take_skipped(), None);
    }

    #[test]
    fn gaps_are_never_skipped_and_end_the_stretch() {
        let mut patience = Patience::new(SECOND, Duration::ZERO, Instant::now());
        let gap = Heard::Lost(Lost::skipped(9, 5, 5));
        assert!(!patience.skip_from(&gap));
        assert!(patience.skip_from(&frames(0)));
        assert!(!patience.skips(&gap, 100 * SECOND));
        assert!(patience.take_skipped().is_some());
    }

    #[test]
    fn catching_up_after_an_outage_is_no_overload_unless_it_crawls() {
        let now = Instant::now();
        let mut patience = Patience::new(20 * SECOND, 600 * SECOND, now);
        assert!(!patience.is_over(600 * SECOND, now));
        assert!(patience.is_over(630 * SECOND, now));
        assert!(!patience.is_over(580 * SECOND, now + 60 * SECOND));
        assert!(patience.is_over(595 * SECOND, now + 60 * SECOND));
        // Once live, the outage is no excuse any more.
        patience.passed(SECOND);
        assert!(patience.is_over(21 * SECOND, now + 61 * SECOND));
    }

    #[test]
    fn lag_is_by_numbers_when_the_clock_is_wrong_and_by_the_clock_when_numbers_stood_still() {
        let now = Instant::now();
        let mut patience = Patience::new(20 * SECOND, 10 * SECOND, now);
        // Ten seconds kept, one since, 0.1 s of it received.
        let lag = patience.receive(&frames(0), 9_999 * SECOND, now + SECOND);
        assert_eq!(lag, Duration::from_millis(10_900));
        // The device was away for an hour, and the node does not count it.
        assert_eq!(patience.receive(&frames(5), SECOND, now + 3_600 * SECOND), SECOND);
        patience.look_again(Duration::ZERO, now + 3_600 * SECOND);
        assert_eq!(patience.receive(&frames(10), 9_999 * SECOND, now + 3_600 * SECOND), Duration::ZERO);
    }
}
