//! The threads that analyse: each owns the ears of its nodes and never waits but for audio and for the recorder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_base::time::now_ns;
use hub_nodes::Node;
use hub_store::events::{Progress, Watermark};
use sound::spectrogram::Columns;
use tokio::sync::mpsc;

use super::ear::{Ear, Finding};
use super::fill::{Fill, Weight};
use super::live::{Live, LiveLevel, LiveSpectrum, News, NodeState, SOUND_PEAK_DBFS, WatchedNode};
use super::sequencer::Heard;

/// Messages of audio, and new nodes, that wait for a thread. When it is full, the subscribers wait, and with them the nodes, whose tapes keep
/// the rest; one that waits too long skips frames and says so.
pub(super) const WORK_QUEUE: usize = 256;

/// Levels are told after this much audio: 0.2 s.
const LEVEL_SAMPLES: u64 = 3_200;

/// And no more often than this, however fast a node catches up.
const LEVEL_PERIOD: Duration = Duration::from_millis(150);

/// How often the watermark is stored when there is nothing else to store: what is analysed again after a kill.
pub(super) const WATERMARK_PERIOD: Duration = Duration::from_secs(5);

/// Audio younger than this is live.
const LIVE_LAG: Duration = Duration::from_millis(1_500);

/// Work on its way to a thread.
pub(super) enum Work {
    /// A node that this thread listens to from now on, and its number.
    Node(usize, Box<Listener>),
    /// Audio of such a node.
    Audio(Audio),
}

/// Audio on its way to a thread.
#[derive(Debug)]
pub(super) struct Audio {
    /// Number of the node.
    pub(super) node: usize,
    /// What was heard.
    pub(super) heard: Heard,
    /// When the last sample was captured. `None`: not known, or it is no audio.
    pub(super) captured: Option<Instant>,
    /// The node's start by the hub's wall clock, in nanoseconds since 1970 UTC.
    pub(super) hub_start_unix_ns: i64,
    /// What it takes in the queue.
    pub(super) _weight: Weight,
}

/// What the recorder is to store.
#[derive(Debug)]
pub(super) enum Report {
    /// Something was found.
    Found { node: Node, finding: Finding, weight: Weight },
    /// Nothing was found, and so far it was heard.
    Progress(Progress, Weight),
}

/// A node as its thread sees it.
pub(super) struct Listener {
    node: Node,
    watched: Arc<WatchedNode>,
    ear: Ear,
    told_level: Instant,
    stored_watermark: Instant,
    watermark: Option<Watermark>,
    /// `None` while nobody watches.
    columns: Option<Columns>,
}

impl Listener {
    pub(super) fn new(node: Node, watched: Arc<WatchedNode>, ear: Ear) -> Self {
        let now = Instant::now();
        Self { node, watched, ear, told_level: now, stored_watermark: now, watermark: None, columns: None }
    }
}

/// Analyses until all senders are gone or the recorder is, then hands out what waits. Blocks.
pub(super) fn run(mut work: mpsc::Receiver<Work>, reports: &mpsc::Sender<Report>, live: &Live) {
    let mut listeners: BTreeMap<usize, Box<Listener>> = BTreeMap::new();
    let mut findings = Vec::new();
    while let Some(work) = work.blocking_recv() {
        let audio = match work {
            Work::Audio(audio) => audio,
            Work::Node(number, listener) => {
                listeners.insert(number, listener);
                continue;
            }
        };
        let Some(listener) = listeners.get_mut(&audio.node) else { continue };
        note(live, &listener.watched, &audio);
        show_spectrum(live, listener, &audio.heard);
        listener.ear.hear(audio.heard, audio.hub_start_unix_ns, |finding| findings.push(finding));
        tell_level(live, listener);
        for finding in findings.drain(..) {
            if let Finding::Event { event, .. } = &finding {
                let mut report = listener.watched.lock();
                report.events += 1;
                *report.events_by_context.entry(event.context.label.as_str()).or_default() += 1;
            }
            if reports.blocking_send(found(listener.node.clone(), finding, &live.report_fill)).is_err() {
                return;
            }
        }
        if listener.stored_watermark.elapsed() >= WATERMARK_PERIOD
            && !store_watermark(listener, reports, &live.report_fill)
        {
            return;
        }
    }
    for mut listener in listeners.into_values() {
        listener.ear.flush(|finding| findings.push(finding));
        for finding in findings.drain(..) {
            if reports.blocking_send(found(listener.node.clone(), finding, &live.report_fill)).is_err() {
                return;
            }
        }
        if !store_watermark(&mut listener, reports, &live.report_fill) {
            return;
        }
    }
}

fn found(node: Node, finding: Finding, fill: &Fill) -> Report {
    let samples = match &finding {
        Finding::Event { cut: Ok(cut), .. } => cut.samples.len(),
        _ => 0,
    };
    Report::Found { node, finding, weight: fill.weigh(samples * size_of::<i16>()) }
}

/// Whether the recorder is still there.
fn store_watermark(listener: &mut Listener, reports: &mpsc::Sender<Report>, fill: &Fill) -> bool {
    listener.stored_watermark = Instant::now();
    let watermark = listener.ear.watermark();
    if watermark == listener.watermark {
        return true;
    }
    listener.watermark = watermark;
    let progress = listener.watermark.clone().map(|watermark| Progress { watermark, gaps: Vec::new() });
    progress.is_none_or(|progress| reports.blocking_send(Report::Progress(progress, fill.weigh(0))).is_ok())
}

/// Counts what comes.
fn note(live: &Live, watched: &WatchedNode, audio: &Audio) {
    let lag = audio.captured.map(|captured| captured.elapsed());
    match &audio.heard {
        Heard::Frames(frames) => {
            {
                let mut report = watched.lock();
                report.boot_id = frames.boot_id;
                report.frames += (frames.samples.len() / proto::FRAME_SAMPLES) as u64;
                report.heard_at_ns = now_ns();
                report.heard_at = Some(Instant::now());
                report.lag_ms = lag.map_or(report.lag_ms, |lag| lag.as_millis() as u64);
            }
            let is_live = lag.is_none_or(|lag| lag < LIVE_LAG);
            live.set_state(watched, if is_live { NodeState::Live } else { NodeState::CatchingUp }, "");
        }
        Heard::Lost(lost) => {
            let mut report = watched.lock();
            report.gaps += 1;
            *report.lost_frames.entry(lost.reason.as_str()).or_default() += lost.frame_count.unwrap_or(0);
        }
        Heard::Quiet => {}
    }
}

fn tell_level(live: &Live, listener: &mut Listener) {
    if listener.told_level.elapsed() < LEVEL_PERIOD {
        return;
    }
    let Some(level) = listener.ear.take_level(LEVEL_SAMPLES) else { return };
    listener.told_level = Instant::now();
    let watched = &listener.watched;
    let score = listener.ear.score();
    let level = {
        let mut report = watched.lock();
        if level.peak_dbfs > SOUND_PEAK_DBFS {
            report.sound_at = Some(listener.told_level);
        }
        let level = LiveLevel {
            node: watched.name().to_owned(),
            rms_dbfs: level.rms_dbfs,
            peak_dbfs: level.peak_dbfs,
            score,
            lag_ms: report.lag_ms,
        };
        report.level = Some(level.clone());
        level
    };
    live.tell(News::Level(level));
}

/// Draws what comes, while somebody watches and the node is live: what it kept during an outage comes too fast to be watched.
fn show_spectrum(live: &Live, listener: &mut Listener, heard: &Heard) {
    let watched = &listener.watched;
    let drawn = match heard {
        Heard::Frames(frames) if live.spectra_are_watched() && watched.report().state == NodeState::Live => frames,
        _ => {
            listener.columns = None;
            return;
        }
    };
    let columns = listener.columns.get_or_insert_default();
    let first_sample = drawn.sequence * proto::FRAME_SAMPLES as u64;
    let first_sample = first_sample.saturating_sub(columns.pending() as u64);
    let mut made = Vec::new();
    columns.push(&drawn.samples, |column| made.push(column));
    if !made.is_empty() {
        let node = watched.name().to_owned();
        live.show_spectrum(LiveSpectrum { node, boot_id: drawn.boot_id, first_sample, columns: made });
    }
}
