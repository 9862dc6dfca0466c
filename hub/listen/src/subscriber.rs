//! The task that subscribes to one node: connects, resumes, reconnects, and passes the audio on to a worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::error::{Code, Error, Who};
use hub_base::time::now_ns;
use hub_nodes::{Node, Nodes};
use proto::listen_response::Event;
use proto::{DescribeResponse, ListenRequest, ListenResponse};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tonic::{Request, Streaming};
use tracing::{info, warn};

use crate::live::{Live, NodeState, WatchedNode};
use crate::patience::{FRAME_NS, Patience};
use crate::sequencer::{Piece, Sequencer};
use crate::worker::{Audio, Work};

/// First and longest wait before the next try to connect.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How long a node may take to begin the stream.
const LISTEN_DEADLINE: Duration = Duration::from_secs(3);

/// How often a streaming node is asked for its uptime: clocks drift apart by seconds per day. The answer also shows
/// that a node that sends nothing is still there.
const DESCRIBE_PERIOD: Duration = Duration::from_secs(30);

/// A node that sends nothing for this long is quiet. What waits for more audio then stops waiting.
const QUIET_AFTER: Duration = Duration::from_secs(3);

/// Most gaps of a node in a row, as on a tape of hours from a bad sound device. Each is a row of the database.
const MOST_GAPS: f64 = 5000.0;

/// Gaps of a node in a second, in the long run. A stream with more ends: the node is broken or hostile.
const GAPS_A_SECOND: f64 = 10.0;

/// How often the same failure of a node is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Subscribes to one node.
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
    /// The hub stops, or the analysis has ended.
    Stop,
    /// The connection to the node is lost. `had_sent`: the node had sent something before.
    Lost { error: Error, had_sent: bool },
}

/// A node's clock as the hub sees it.
#[derive(Debug, Clone, Copy)]
struct NodeClock {
    /// When the node was asked.
    asked: Instant,
    /// The uptime that it answered.
    uptime: Duration,
    /// Its start by the hub's wall clock, in nanoseconds since 1970 UTC.
    hub_start_unix_ns: i64,
}

impl Subscriber {
    /// Listens until the stop.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        let mut quiet = Quiet::new(LOG_PERIOD);
        let mut gaps = Allowance::new(Instant::now());
        loop {
            let Ended::Lost { error, had_sent } = self.session(&mut gaps).await else { return };
            if had_sent {
                backoff.reset();
                quiet.reset();
            }
            self.watched.lock().disconnects += 1;
            self.live.set_state(&self.watched, NodeState::Away, &error.message);
            if let Some(held_back) = quiet.allow() {
                warn!(node = self.node.url(), code = error.code.as_str(), %error, held_back, "node lost; connecting again");
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.next_wait()) => {}
                () = self.stop.cancelled() => return,
            }
            // If the queue is full, the node is not quiet for the analysis.
            let weight = self.live.audio_fill.weigh(0);
            let quiet =
                Audio { node: self.number, piece: Piece::Quiet, captured: None, hub_start_unix_ns: 0, _weight: weight };
            if matches!(self.work.try_send(Work::Audio(quiet)), Err(TrySendError::Closed(_))) {
                return;
            }
        }
    }

    /// Connects and listens until one side ends it.
    async fn session(&mut self, gaps: &mut Allowance) -> Ended {
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
                        if let Err(error) = self.take(message, gaps, &mut messages) {
                            // Such a node is not asked again at once.
                            return Ended::Lost { error, had_sent: false };
                        }
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
                        messages.push(Piece::Quiet);
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
            for piece in messages.drain(..) {
                if !self.pass_on(piece, &clock, &mut patience).await {
                    return Ended::Stop;
                }
            }
        }
    }

    /// Takes a message of the node.
    fn take(&mut self, message: ListenResponse, gaps: &mut Allowance, pieces: &mut Vec<Piece>) -> Result<(), Error> {
        let bad = |why: String| Error::new(Code::BadAnswer(Who::Node), format!("the node's stream is refused: {why}"));
        if matches!(message.event, Some(Event::Gap(_))) && !gaps.take(Instant::now()) {
            return Err(bad("it has too many gaps".into()));
        }
        self.sequencer.take(message, |piece| pieces.push(piece)).map_err(|error| bad(error.to_string()))
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

    /// Asks the node to describe itself. Also fails if the hub listens to the same node under another name.
    async fn describe(&self) -> Result<DescribeResponse, Error> {
        let description = self.node.describe().await?;
        match self.nodes.twin_of(&self.node) {
            Some(twin) => {
                Err(Error::new(Code::Unavailable(Who::Node), format!("it is the same node as {}", twin.url())))
            }
            None => Ok(description),
        }
    }

    /// How much audio on the tape the hub has not heard yet.
    fn behind(&self, description: &DescribeResponse) -> Duration {
        let tape = description.tape.unwrap_or_default();
        let cursor = self.sequencer.cursor();
        let known = if cursor.boot_id == description.boot_id { cursor.sequence } else { 0 };
        let frames = tape.next_sequence.saturating_sub(known.max(tape.oldest_sequence));
        Duration::from_nanos(frames.saturating_mul(FRAME_NS))
    }

    /// Passes a piece on, or skips it if the analysis is too far behind. `false`: the analysis has ended.
    async fn pass_on(&self, piece: Piece, clock: &NodeClock, patience: &mut Patience) -> bool {
        let (captured, lag) = match &piece {
            Piece::Frames(frames) => {
                let length = Duration::from_nanos(piece.frame_count() * FRAME_NS);
                let since_start = Duration::from_nanos(frames.captured_monotonic_ns).saturating_add(length);
                let lag = (clock.uptime + clock.asked.elapsed()).saturating_sub(since_start);
                (Instant::now().checked_sub(lag), lag)
            }
            Piece::Gap(_) | Piece::Quiet => (None, Duration::ZERO),
        };
        let lag = patience.receive(&piece, lag, Instant::now());
        if patience.skips(&piece, lag) {
            return true;
        }
        if let Some(skipped) = patience.take_skipped() {
            let audio = self.audio_of(Piece::Gap(skipped), None, clock);
            if !self.send(audio).await {
                return false;
            }
        }
        let audio = self.audio_of(piece, captured, clock);
        match self.work.try_reserve() {
            Ok(place) => {
                place.send(Work::Audio(audio));
                patience.passed(lag);
                true
            }
            Err(TrySendError::Full(())) => {
                if patience.is_over(lag, Instant::now()) && patience.skip_from(&audio.piece) {
                    warn!(node = self.node.url(), lag_ms = lag.as_millis() as u64, "overloaded, skipping audio");
                    return true;
                }
                self.send(audio).await
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }

    fn audio_of(&self, piece: Piece, captured: Option<Instant>, clock: &NodeClock) -> Audio {
        let samples = if let Piece::Frames(frames) = &piece { frames.samples.len() } else { 0 };
        let weight = self.live.audio_fill.weigh(samples * size_of::<i16>());
        Audio { node: self.number, piece, captured, hub_start_unix_ns: clock.hub_start_unix_ns, _weight: weight }
    }

    async fn send(&self, audio: Audio) -> bool {
        tokio::select! {
            sent = self.work.send(Work::Audio(audio)) => sent.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }
}

/// How many gaps a node may still send.
#[derive(Debug)]
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self { left: MOST_GAPS, at: now }
    }

    /// Takes one. `false`: none is left.
    fn take(&mut self, now: Instant) -> bool {
        let grown = now.duration_since(self.at).as_secs_f64() * GAPS_A_SECOND;
        (self.left, self.at) = ((self.left + grown).min(MOST_GAPS), now);
        let taken = self.left >= 1.0;
        if taken {
            self.left -= 1.0;
        }
        taken
    }
}

impl NodeClock {
    fn of(description: &DescribeResponse) -> Self {
        let uptime = Duration::from_nanos(description.uptime_ns);
        let uptime_ns = i64::try_from(description.uptime_ns).unwrap_or(i64::MAX);
        Self { asked: Instant::now(), uptime, hub_start_unix_ns: now_ns().saturating_sub(uptime_ns) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_bounded_at_once_and_in_the_long_run() {
        let start = Instant::now();
        let mut gaps = Allowance::new(start);
        assert_eq!((0..10_000).filter(|_| gaps.take(start)).count(), 5000);
        let later = start + Duration::from_secs(60);
        assert_eq!((0..10_000).filter(|_| gaps.take(later)).count(), 600);
    }
}
