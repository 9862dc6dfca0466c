//! The analysis threads. Each owns the ears of its nodes, and waits only for audio and for the recorder.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_base::time::now_ns;
use hub_nodes::Node;
use hub_store::events::{Progress, Watermark};
use sound::spectrogram::Columns;
use tokio::sync::mpsc;

use crate::clock::NodeStart;
use crate::ear::{Ear, Finding};
use crate::fill::{Fill, Weight};
use crate::live::{Live, LiveLevel, LiveSpectrum, News, NodeState, SOUND_PEAK_DBFS, WatchedNode};
use crate::sequencer::Piece;

/// Messages of audio, and new nodes, that are queued for a thread. While the queue is full, the subscribers wait and
/// the nodes keep the audio on their tapes. A subscriber that waits too long skips frames, which is recorded as a gap.
pub(super) const WORK_QUEUE: usize = 256;

/// Levels are published after this much audio: 0.2 s.
const LEVEL_SAMPLES: u64 = 3_200;

/// Shortest time between two levels, however fast a node catches up.
const LEVEL_PERIOD: Duration = Duration::from_millis(150);

/// How often the watermark is stored if there is nothing else to store. This limits how much audio is analysed
/// again after a kill.
pub(super) const WATERMARK_PERIOD: Duration = Duration::from_secs(5);

/// Audio younger than this is live.
const LIVE_LAG: Duration = Duration::from_millis(1_500);

/// Work on its way to a thread.
pub(super) enum Work {
    /// A node that this thread analyses from now on, and its number.
    Node(usize, Box<AnalysedNode>),
    /// One of its nodes goes on at another place: where the node was heard under another URL. `None`: it was never
    /// heard.
    Resume(usize, Option<Watermark>),
    /// Audio of one of its nodes.
    Audio(Audio),
    /// The hub does not listen to one of its nodes any more: what is open ends, and the ear is dropped.
    Leave(usize),
}

/// Audio on its way to a thread.
#[derive(Debug)]
pub(super) struct Audio {
    /// Number of the node.
    pub(super) node: usize,
    /// The audio, or what takes its place.
    pub(super) piece: Piece,
    /// When the last sample was captured. `None`: unknown, or it is not audio.
    pub(super) captured: Option<Instant>,
    /// The node's start as the hub sees it.
    pub(super) start: NodeStart,
    /// Its share of the queue.
    pub(super) _weight: Weight,
}

/// What the recorder has to store.
#[derive(Debug)]
pub(super) enum Report {
    /// A finding.
    Found { node: Node, finding: Finding, weight: Weight },
    /// A watermark without a finding.
    Progress(Progress, Weight),
}

/// A node that a thread analyses.
pub(super) struct AnalysedNode {
    node: Node,
    watched: Arc<WatchedNode>,
    ear: Ear,
    published_level: Instant,
    stored_watermark: Instant,
    watermark: Option<Watermark>,
    /// `None` while nobody watches.
    columns: Option<Columns>,
}

impl AnalysedNode {
    pub(super) fn new(node: Node, watched: Arc<WatchedNode>, ear: Ear) -> Self {
        let now = Instant::now();
        Self { node, watched, ear, published_level: now, stored_watermark: now, watermark: None, columns: None }
    }
}

/// Analyses until all senders or the recorder have gone, then hands out what waits. Blocks.
pub(super) fn run(mut work: mpsc::Receiver<Work>, reports: &mpsc::Sender<Report>, live: &Live) {
    let mut nodes: BTreeMap<usize, Box<AnalysedNode>> = BTreeMap::new();
    let mut findings = Vec::new();
    while let Some(work) = work.blocking_recv() {
        let audio = match work {
            Work::Audio(audio) => audio,
            Work::Node(number, analysed) => {
                nodes.insert(number, analysed);
                continue;
            }
            Work::Resume(number, from) => {
                let Some(analysed) = nodes.get_mut(&number) else { continue };
                analysed.ear.resume(from, |finding| findings.push(finding));
                if !report_findings(analysed, &mut findings, reports, &live.report_fill) {
                    return;
                }
                continue;
            }
            Work::Leave(number) => {
                let Some(mut analysed) = nodes.remove(&number) else { continue };
                let is_stored = store_watermark(&mut analysed, reports, &live.report_fill);
                analysed.ear.resume(None, |finding| findings.push(finding));
                if !is_stored || !report_findings(&analysed, &mut findings, reports, &live.report_fill) {
                    return;
                }
                continue;
            }
        };
        let Some(analysed) = nodes.get_mut(&audio.node) else { continue };
        note(live, &analysed.watched, &audio);
        show_spectrum(live, analysed, &audio.piece);
        analysed.ear.hear(audio.piece, audio.start, |finding| findings.push(finding));
        publish_level(live, analysed);
        findings.iter().for_each(|finding| count_event(&analysed.watched, finding));
        if !report_findings(analysed, &mut findings, reports, &live.report_fill) {
            return;
        }
        if analysed.stored_watermark.elapsed() >= WATERMARK_PERIOD
            && !store_watermark(analysed, reports, &live.report_fill)
        {
            return;
        }
    }
    for mut analysed in nodes.into_values() {
        analysed.ear.flush(|finding| findings.push(finding));
        let all_sent = report_findings(&analysed, &mut findings, reports, &live.report_fill)
            && store_watermark(&mut analysed, reports, &live.report_fill);
        if !all_sent {
            return;
        }
    }
}

fn count_event(watched: &WatchedNode, finding: &Finding) {
    if let Finding::Event { event, .. } = finding {
        let mut report = watched.lock();
        report.events += 1;
        *report.events_by_context.entry(event.context.label.as_str()).or_default() += 1;
    }
}

/// Sends the findings to the recorder. Returns whether the recorder is still there.
fn report_findings(
    analysed: &AnalysedNode,
    findings: &mut Vec<Finding>,
    reports: &mpsc::Sender<Report>,
    fill: &Fill,
) -> bool {
    findings.drain(..).all(|finding| reports.blocking_send(found(analysed.node.clone(), finding, fill)).is_ok())
}

fn found(node: Node, finding: Finding, fill: &Fill) -> Report {
    let samples = match &finding {
        Finding::Event { cut: Ok(cut), .. } => cut.samples.len(),
        _ => 0,
    };
    Report::Found { node, finding, weight: fill.weigh(samples * size_of::<i16>()) }
}

/// Sends the watermark to the recorder if it has moved. Returns whether the recorder is still there.
fn store_watermark(analysed: &mut AnalysedNode, reports: &mpsc::Sender<Report>, fill: &Fill) -> bool {
    analysed.stored_watermark = Instant::now();
    let watermark = analysed.ear.watermark();
    if watermark == analysed.watermark {
        return true;
    }
    analysed.watermark = watermark;
    let progress = analysed.watermark.clone().map(|watermark| Progress { watermark, gaps: Vec::new() });
    progress.is_none_or(|progress| reports.blocking_send(Report::Progress(progress, fill.weigh(0))).is_ok())
}

/// Updates state and counts of the node.
fn note(live: &Live, watched: &WatchedNode, audio: &Audio) {
    let lag = audio.captured.map(|captured| captured.elapsed());
    match &audio.piece {
        Piece::Frames(frames) => {
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
        Piece::Gap(gap) => {
            let mut report = watched.lock();
            report.gaps += 1;
            *report.lost_frames.entry(gap.reason.as_str()).or_default() += gap.frame_count.unwrap_or(0);
        }
        Piece::Quiet => {}
    }
}

fn publish_level(live: &Live, analysed: &mut AnalysedNode) {
    if analysed.published_level.elapsed() < LEVEL_PERIOD {
        return;
    }
    let Some(level) = analysed.ear.take_level(LEVEL_SAMPLES) else { return };
    analysed.published_level = Instant::now();
    let watched = &analysed.watched;
    let score = analysed.ear.score();
    let level = {
        let mut report = watched.lock();
        if level.peak_dbfs > SOUND_PEAK_DBFS {
            report.sound_at = Some(analysed.published_level);
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

/// Draws the spectrum while somebody watches and the node is live. While a node catches up, its audio comes too fast to
/// watch.
fn show_spectrum(live: &Live, analysed: &mut AnalysedNode, piece: &Piece) {
    let watched = &analysed.watched;
    let drawn = match piece {
        Piece::Frames(frames) if live.spectra_are_watched() && watched.report().state == NodeState::Live => frames,
        _ => {
            analysed.columns = None;
            return;
        }
    };
    let columns = analysed.columns.get_or_insert_default();
    let first_sample = drawn.sequence * proto::FRAME_SAMPLES as u64;
    let first_sample = first_sample.saturating_sub(columns.pending() as u64);
    let mut made = Vec::new();
    columns.push(&drawn.samples, |column| made.push(column));
    if !made.is_empty() {
        let node = watched.name().to_owned();
        live.show_spectrum(LiveSpectrum { node, boot_id: drawn.boot_id, first_sample, columns: made });
    }
}
