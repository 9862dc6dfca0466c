//! The task that subscribes to one node: connects, resumes, reconnects, and passes the audio on to a worker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon::allowance::Allowance;
use daemon::backoff::Backoff;
use daemon::identity::NodeId;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::clock::steady_ns;
use hub_base::error::{Code, Error, Who};
use hub_base::time::now_ns;
use hub_nodes::{Node, Nodes};
use hub_store::{KnownNode, SeenNode, Store};
use proto::listen_response::Event;
use proto::{DescribeResponse, FRAME_SAMPLES, ListenRequest, ListenResponse};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tonic::Streaming;
use tracing::{info, warn};

use crate::clock::{NodeStart, STEP_NS};
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

/// When a wall clock seems to be stepped, the node is asked at once, unless it was asked so recently.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How often a session looks whether the node is heard under another name too. Nobody is asked for that.
const TWIN_PERIOD: Duration = Duration::from_secs(1);

/// A node that sends nothing for this long is quiet. What waits for more audio then stops waiting.
const QUIET_AFTER: Duration = Duration::from_secs(3);

/// How often a node that answers and has no audio is asked again. It may have been updated.
const NO_AUDIO_AGAIN: Duration = Duration::from_secs(5);

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
    pub(super) store: Store,
    pub(super) sequencer: Sequencer,
    /// The id of the node that was heard last at this URL. `None`: none was heard yet, or it proved no id.
    pub(super) heard_id: Option<NodeId>,
    pub(super) frame_ms: u32,
    pub(super) encoding: proto::Encoding,
    pub(super) max_lag: Duration,
    pub(super) work: mpsc::Sender<Work>,
    pub(super) live: Live,
    pub(super) stop: CancellationToken,
    /// How often the node was asked to describe itself.
    pub(super) asked: u64,
}

/// Why a session with a node ended.
enum Ended {
    /// The hub stops, or the analysis has ended.
    Stop,
    /// The hub could not connect to the node.
    NotConnected(Error),
    /// The connection to the node is lost. `had_sent`: the node had sent something before.
    Lost { error: Error, had_sent: bool },
    /// The node answers and cannot stream, like the cats of the original system.
    NoAudio,
}

/// A node's clock as the hub sees it.
#[derive(Debug, Clone, Copy)]
struct NodeClock {
    /// When the node was asked.
    asked: Instant,
    /// The uptime that it answered.
    uptime: Duration,
    /// Its start by the hub's steady clock.
    start_steady_ns: i64,
    /// How often it was asked.
    count: u64,
    /// Its start by the wall clocks, when it was last looked at: by the hub's clock, and by the node's if it knows.
    starts_unix_ns: Option<(i64, Option<i64>)>,
}

impl Subscriber {
    /// Listens until the stop.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        let mut quiet = Quiet::new(LOG_PERIOD);
        let mut has_audio = true;
        let mut gaps = Allowance::new(MOST_GAPS, GAPS_A_SECOND, Instant::now());
        loop {
            let ended = self.session(&mut gaps).await;
            let had_audio = std::mem::replace(&mut has_audio, !matches!(ended, Ended::NoAudio));
            let wait = match ended {
                Ended::Stop => return,
                Ended::NoAudio => {
                    self.live.set_state(&self.watched, NodeState::Quiet, "");
                    if had_audio {
                        info!(node = self.node.url(), "the node answers and has no audio: its program does not stream");
                    }
                    NO_AUDIO_AGAIN
                }
                Ended::NotConnected(error) => {
                    self.away(&error, "cannot connect to node; retrying", &mut quiet);
                    backoff.next_wait()
                }
                Ended::Lost { error, had_sent } => {
                    if had_sent {
                        backoff.reset();
                        quiet.reset();
                    }
                    self.watched.lock().disconnects += 1;
                    self.away(&error, "connection to node lost; reconnecting", &mut quiet);
                    backoff.next_wait()
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => return,
            }
            // If the queue is full, the node is not quiet for the analysis.
            let weight = self.live.audio_fill.weigh(0);
            let quiet = Audio {
                node: self.number,
                piece: Piece::Quiet,
                captured: None,
                start: NodeStart::default(),
                _weight: weight,
            };
            if matches!(self.work.try_send(Work::Audio(quiet)), Err(TrySendError::Closed(_))) {
                return;
            }
        }
    }

    /// The node is away, which is logged at a limited rate.
    fn away(&self, error: &Error, what: &str, quiet: &mut Quiet) {
        self.live.set_state(&self.watched, NodeState::Away, &error.message);
        if let Some(suppressed_lines) = quiet.allow() {
            warn!(node = self.node.url(), code = error.code.as_str(), %error, suppressed_lines, "{what}");
        }
    }

    /// Connects and listens until one side ends it.
    async fn session(&mut self, gaps: &mut Allowance) -> Ended {
        let stop = self.stop.clone();
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = stop.cancelled() => return Ended::Stop,
        };
        let (description, mut stream) = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ended::NoAudio,
            Err(error) => return Ended::NotConnected(error),
        };
        info!(
            node = self.node.url(),
            cat = description.cat_name,
            boot_id = format!("{:016x}", description.boot_id),
            from = self.sequencer.cursor().sequence,
            "listening"
        );
        self.asked += 1;
        let mut clock = NodeClock::of(&description, self.asked);
        let mut patience = Patience::new(self.max_lag, self.behind(&description), Instant::now());
        let mut had_sent = false;
        let mut messages = Vec::new();
        let mut ask = tokio::time::interval(DESCRIBE_PERIOD);
        ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ask.reset();
        let mut compare = tokio::time::interval(TWIN_PERIOD);
        compare.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Ended::Stop,
                message = next_message(&mut stream) => match message {
                    Ok(Some(message)) => {
                        had_sent = true;
                        if let Err(error) = self.take(message, gaps, &mut messages) {
                            // Such a node is not asked again at once.
                            return Ended::Lost { error, had_sent: false };
                        }
                        self.watched.lock().duplicate_frames = self.sequencer.duplicates();
                    }
                    Ok(None) => {
                        self.live.set_state(&self.watched, NodeState::Quiet, "");
                        messages.push(Piece::Quiet);
                    }
                    Err(error) => return Ended::Lost { error, had_sent },
                },
                _ = compare.tick() => if let Err(error) = self.check_is_heard_once() {
                    return Ended::Lost { error, had_sent };
                },
                _ = ask.tick() => match self.describe().await {
                    Ok(description) => {
                        self.asked += 1;
                        clock = NodeClock::of(&description, self.asked);
                        patience.look_again(self.behind(&description), Instant::now());
                    }
                    Err(error) => return Ended::Lost { error, had_sent },
                },
            }
            for piece in messages.drain(..) {
                if clock.is_stepped(&piece) && clock.asked.elapsed() >= ASK_AGAIN_AFTER {
                    ask.reset_immediately();
                }
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

    /// `None`: the node answers and cannot stream.
    async fn open(&mut self) -> Result<Option<(DescribeResponse, Streaming<ListenResponse>)>, Error> {
        let description = self.describe().await?;
        self.find_place(&description).await?;
        let (frame_ms, encoding) = (self.frame_ms, self.encoding as i32);
        let request = ListenRequest { frame_ms, from: Some(self.sequencer.cursor()), encoding };
        let stream = self.node.listen(request, LISTEN_DEADLINE).await?;
        Ok(stream.map(|stream| (description, stream)))
    }

    /// Goes on where the node was heard last, under this URL or another one.
    async fn find_place(&mut self, description: &DescribeResponse) -> Result<(), Error> {
        // Before the store notes the id at this URL: what the store knows, the hub trusts.
        if !self.nodes.may_be_heard(&self.node) {
            self.node.leave_address();
            let why = "another node answers there; it waits to be admitted";
            return Err(Error::new(Code::Unavailable(Who::Node), why));
        }
        let (id, described) = (self.node.id(), self.node.description());
        let captured_frames = description.tape.unwrap_or_default().next_sequence;
        let node = SeenNode {
            url: self.node.url().to_owned(),
            node_id: id.map(|id| id.to_string()),
            claimed_id: described.and_then(|described| described.claimed_id).map(|id| id.to_string()),
            boot_id: description.boot_id,
            captured_samples: captured_frames.saturating_mul(FRAME_SAMPLES as u64),
        };
        let KnownNode::HeardUntil(mark) = self.store.see_node(node).await? else {
            let why = "it claims to be a node whose key it does not hold; it is not listened to";
            return Err(Error::new(Code::Unavailable(Who::Node), why));
        };
        let cursor = self.sequencer.cursor();
        let is_another = cursor.boot_id == 0 || self.heard_id != id;
        // Usually the subscriber itself is the furthest: what it has passed on is stored later.
        let is_ahead = mark.as_ref().is_some_and(|mark| {
            mark.boot_id == description.boot_id
                && (mark.boot_id != cursor.boot_id || mark.settled_sample / FRAME_SAMPLES as u64 > cursor.sequence)
        });
        if is_another || is_ahead {
            self.sequencer = mark
                .as_ref()
                .map_or_else(Sequencer::default, |mark| Sequencer::resume(mark.boot_id, mark.resume_sequence));
            // An error means that the analysis has ended. The session will notice that too.
            let _ = self.work.send(Work::Resume(self.number, mark)).await;
        }
        self.heard_id = id;
        Ok(())
    }

    /// Asks the node to describe itself. Also fails if the hub listens to the same node under another name.
    async fn describe(&self) -> Result<DescribeResponse, Error> {
        let description = self.node.describe().await?;
        self.check_is_heard_once()?;
        Ok(description)
    }

    /// Fails if the hub listens to the same node under another name. Then this name's other addresses are tried: it may
    /// be the name of another node.
    fn check_is_heard_once(&self) -> Result<(), Error> {
        let Some(twin) = self.nodes.twin_of(&self.node) else { return Ok(()) };
        self.node.leave_address();
        twin.stands_for(&self.node);
        Err(Error::new(Code::Unavailable(Who::Node), format!("it is the same node as {}", twin.url())))
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
        Audio { node: self.number, piece, captured, start: clock.start(), _weight: weight }
    }

    async fn send(&self, audio: Audio) -> bool {
        tokio::select! {
            sent = self.work.send(Work::Audio(audio)) => sent.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }
}

/// The next message of a stream. `None`: none has come for [`QUIET_AFTER`].
///
/// # Errors
/// If the stream has ended.
async fn next_message(stream: &mut Streaming<ListenResponse>) -> Result<Option<ListenResponse>, Error> {
    match tokio::time::timeout(QUIET_AFTER, stream.message()).await {
        Ok(Ok(Some(message))) => Ok(Some(message)),
        Ok(Ok(None)) => Err(Error::new(Code::Unavailable(Who::Node), "the node ended the stream")),
        Ok(Err(status)) => Err(Error::from_status(Who::Node, &status)),
        Err(_) => Ok(None),
    }
}

impl NodeClock {
    fn of(description: &DescribeResponse, count: u64) -> Self {
        let uptime = Duration::from_nanos(description.uptime_ns);
        let uptime_ns = i64::try_from(description.uptime_ns).unwrap_or(i64::MAX);
        let start_steady_ns = steady_ns().saturating_sub(uptime_ns);
        Self { asked: Instant::now(), uptime, start_steady_ns, count, starts_unix_ns: None }
    }

    /// Its start, by the hub's clocks as they are now: the wall clock may have been stepped since the node was asked.
    fn start(&self) -> NodeStart {
        let unix_ns = now_ns().saturating_sub(steady_ns()).saturating_add(self.start_steady_ns);
        NodeStart { steady_ns: self.start_steady_ns, unix_ns, asked: self.count }
    }

    /// Whether the start has moved since the last frames, by either wall clock.
    fn is_stepped(&mut self, piece: &Piece) -> bool {
        let Piece::Frames(frames) = piece else { return false };
        let monotonic_ns = i64::try_from(frames.captured_monotonic_ns).unwrap_or(i64::MAX);
        let by_node_ns = frames.captured_unix_ns.map(|unix_ns| unix_ns.saturating_sub(monotonic_ns));
        let by_hub_ns = self.start().unix_ns;
        let moved = |before: i64, now: i64| before.abs_diff(now) > STEP_NS;
        match self.starts_unix_ns {
            Some((hub_ns, node_ns))
                if moved(hub_ns, by_hub_ns) || node_ns.zip(by_node_ns).is_some_and(|(was, is)| moved(was, is)) =>
            {
                // Kept as they were until the node is asked.
                true
            }
            _ => {
                self.starts_unix_ns = Some((by_hub_ns, by_node_ns));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_bounded_at_once_and_in_the_long_run() {
        let start = Instant::now();
        let mut gaps = Allowance::new(MOST_GAPS, GAPS_A_SECOND, start);
        assert_eq!((0..10_000).filter(|_| gaps.take(start)).count(), 5000);
        let later = start + Duration::from_secs(60);
        assert_eq!((0..10_000).filter(|_| gaps.take(later)).count(), 600);
    }
}
