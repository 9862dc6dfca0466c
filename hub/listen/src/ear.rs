//! From one node's frames to its events. Pure: no clock, no store, no task.
//!
//! Every finding comes with a watermark. It never passes what is still open: a sound that has not ended, or an event
//! whose post-roll has not come. A hub that resumes from the watermark hears that part again and finds the same events.

use std::collections::VecDeque;
use std::sync::Arc;

use hub_store::clips::{ClipsConfig, Cut};
use hub_store::events::{EventClock, NewEvent, NewGap, NoClip, Watermark};
use sound::SAMPLE_RATE_HZ;
use sound::analysis::{Analyzer, Vocalisation};
use sound::detection::Detection;
use sound::detector::DetectorConfig;
use sound::level::{Level, LevelMeter};
use sound::model::Model;
use sound::speech;

use crate::clock::{self, CaptureClock, Dating, NodeStart, Start};
use crate::ring::Ring;
use crate::sequencer::{Frames, Gap, Piece};

/// Audio before the watermark that is analysed again after a restart: the detector's estimate of the background and the
/// network's context need a few seconds to settle.
const WARM_UP_SAMPLES: u64 = 5 * SAMPLE_RATE_HZ as u64;

/// Audio that is kept in memory beyond the longest clip: the analysis reports an event only some time after its end.
const DECISION_SAMPLES: u64 = 5 * SAMPLE_RATE_HZ as u64;

/// After this many quiet periods in a row (half a minute), an open sound is taken to have ended.
const QUIETS_THAT_END: u32 = 10;

/// Listening resumes at a multiple of this many frames, which is 5,120 samples. The front end's hop and the network's
/// step divide that, so they fall on the same samples as before and find the same events.
const RESUME_FRAMES: u64 = 16;

const FRAME_SAMPLES: u64 = proto::FRAME_SAMPLES as u64;

/// What listening to a node finds.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// A cat event.
    Event {
        /// The event. Its cat is not known here.
        event: Box<NewEvent>,
        /// Its audio, or why there is none.
        cut: Result<Cut, NoClip>,
        /// Up to where everything is decided once the event is stored.
        watermark: Watermark,
    },
    /// Lost audio.
    Gap {
        /// The gap.
        gap: NewGap,
        /// Up to where everything is decided, including the gap.
        watermark: Watermark,
    },
    /// The node has said the time, or a wall clock was stepped.
    StartedAt {
        /// Boot id of the node.
        boot_id: u64,
        /// When this boot began.
        dating: Dating,
    },
    /// The hub hears no more of a boot.
    Ended {
        /// Boot id of the node.
        boot_id: u64,
        /// The start that its events are dated by.
        start: Start,
    },
}

/// Listens to one node.
pub struct Ear {
    setting: Arc<Setting>,
    /// The watermark in the store when the hub began to listen to the node.
    resumed_from: Option<Watermark>,
    boot: Option<Boot>,
    level: LevelMeter,
}

/// What does not change.
struct Setting {
    node: String,
    clips: ClipsConfig,
    detector: DetectorConfig,
}

/// One boot of the node, as far as the hub has heard it.
struct Boot {
    setting: Arc<Setting>,
    id: u64,
    analyzer: Analyzer,
    /// The analyzer's sample 0 in the node's numbering.
    base_sample: u64,
    /// The next sample in the node's numbering.
    next_sample: u64,
    /// Vocalisations that end before this sample were stored by an earlier run of the hub.
    stored_before: u64,
    recent: Ring,
    clock: CaptureClock,
    /// Quiet periods in a row.
    quiets: u32,
    /// Vocalisations that wait for their post-roll.
    waiting: VecDeque<Vocalisation>,
}

impl Ear {
    /// An ear for a node, which resumes at `resumed_from`.
    pub fn new(node: String, clips: ClipsConfig, detector: DetectorConfig, resumed_from: Option<Watermark>) -> Self {
        let setting = Arc::new(Setting { node, clips, detector });
        Self { setting, resumed_from, boot: None, level: LevelMeter::default() }
    }

    /// Ends what is open, and goes on with a node that was heard up to `resumed_from`. `None`: it was never heard.
    pub fn resume(&mut self, resumed_from: Option<Watermark>, mut find: impl FnMut(Finding)) {
        self.leave(&mut find);
        self.resumed_from = resumed_from;
    }

    /// Takes the next piece. `start`: the node's start as the hub sees it.
    pub fn hear(&mut self, piece: Piece, start: NodeStart, mut find: impl FnMut(Finding)) {
        match piece {
            Piece::Frames(frames) => self.hear_frames(&frames, start, &mut find),
            Piece::Gap(lost) => self.lose(lost, &mut find),
            Piece::Quiet => self.wait_no_longer(&mut find),
        }
    }

    /// Nothing has come for a while: hands out what waits. After [`QUIETS_THAT_END`] times, also ends an open sound.
    fn wait_no_longer(&mut self, find: &mut impl FnMut(Finding)) {
        let Some(boot) = &mut self.boot else { return };
        boot.quiets += 1;
        if boot.quiets == QUIETS_THAT_END {
            boot.analyzer.push_gap(0);
            boot.take_detections();
        }
        boot.hand_out(true, find);
    }

    /// Hands out what waits for its post-roll, which may never come: the node is away or the hub stops.
    pub fn flush(&mut self, mut find: impl FnMut(Finding)) {
        if let Some(boot) = &mut self.boot {
            boot.hand_out(true, &mut find);
        }
    }

    /// Up to where everything is decided. `None`: nothing was heard.
    pub fn watermark(&self) -> Option<Watermark> {
        self.boot.as_ref().map(|boot| boot.watermark())
    }

    /// Level of the audio since the last call. `None`: fewer than `samples` samples have come.
    pub fn take_level(&mut self, samples: u64) -> Option<Level> {
        (self.level.samples() >= samples).then(|| std::mem::take(&mut self.level).level())
    }

    /// How much it sounds like a cat now, 0 to 1.
    pub fn score(&self) -> f32 {
        self.boot.as_ref().map_or(0.0, |boot| boot.analyzer.current_score())
    }

    fn hear_frames(&mut self, frames: &Frames, start: NodeStart, find: &mut impl FnMut(Finding)) {
        let first_sample = frames.sequence * FRAME_SAMPLES;
        let boot = self.enter(frames.boot_id, first_sample, find);
        if let Some(dating) = boot.clock.take(frames, first_sample, start) {
            find(Finding::StartedAt { boot_id: frames.boot_id, dating });
        }
        boot.quiets = 0;
        boot.recent.push(&frames.samples);
        boot.next_sample = first_sample + frames.samples.len() as u64;
        boot.analyzer.push(&frames.samples);
        boot.take_detections();
        boot.hand_out(false, find);
        self.level.push(&frames.samples);
    }

    fn lose(&mut self, lost: Gap, find: &mut impl FnMut(Finding)) {
        let first_sample = lost.first_sequence * FRAME_SAMPLES;
        let watermark = match lost.frame_count {
            // Everything after it in that boot is lost; the boot is over.
            None => {
                self.leave(find);
                Watermark {
                    node: self.setting.node.clone(),
                    boot_id: lost.boot_id,
                    resume_sequence: lost.first_sequence,
                    settled_sample: first_sample,
                }
            }
            Some(frame_count) => {
                let boot = self.enter(lost.boot_id, first_sample, find);
                let lost_samples = frame_count * FRAME_SAMPLES;
                boot.analyzer.push_gap(lost_samples);
                boot.take_detections();
                boot.hand_out(true, find);
                boot.next_sample = first_sample + lost_samples;
                boot.recent.restart(boot.next_sample);
                boot.watermark()
            }
        };
        let gap = NewGap {
            node: self.setting.node.clone(),
            boot_id: lost.boot_id,
            first_sequence: lost.first_sequence,
            frame_count: lost.frame_count,
            reason: lost.reason,
            detail: lost.detail,
        };
        find(Finding::Gap { gap, watermark });
    }

    /// The boot with this id. If it is a new one, it begins here and the one before is over.
    fn enter(&mut self, boot_id: u64, first_sample: u64, find: &mut impl FnMut(Finding)) -> &mut Boot {
        if self.boot.as_ref().is_none_or(|boot| boot.id != boot_id) {
            self.leave(find);
        }
        let stored = self.resumed_from.as_ref().filter(|mark| mark.boot_id == boot_id);
        let setting = &self.setting;
        self.boot.get_or_insert_with(|| {
            let clips = &setting.clips;
            let clip_samples = clips.pre_roll_samples() + clips.max_length_samples() + clips.post_roll_samples();
            let capacity = if clips.enabled { clip_samples + DECISION_SAMPLES } else { 0 };
            Boot {
                setting: Arc::clone(setting),
                id: boot_id,
                analyzer: Analyzer::new(setting.detector),
                base_sample: first_sample,
                next_sample: first_sample,
                stored_before: stored.map_or(0, |mark| mark.settled_sample),
                recent: Ring::new(capacity as usize, first_sample),
                clock: CaptureClock::default(),
                quiets: 0,
                waiting: VecDeque::new(),
            }
        })
    }

    /// The boot is over: ends what is open and hands out everything.
    fn leave(&mut self, find: &mut impl FnMut(Finding)) {
        if let Some(mut boot) = self.boot.take() {
            let fresh = Analyzer::new(self.setting.detector);
            let (_, last) = std::mem::replace(&mut boot.analyzer, fresh).finish_vocalisations();
            boot.wait(last);
            boot.hand_out(true, find);
            if let Some(start) = boot.clock.start() {
                find(Finding::Ended { boot_id: boot.id, start });
            }
        }
    }
}

impl Boot {
    fn take_detections(&mut self) {
        let found = self.analyzer.take_vocalisations();
        self.wait(found);
    }

    fn wait(&mut self, found: Vec<Vocalisation>) {
        let base = self.base_sample;
        let placed = found.into_iter().map(|vocalisation| {
            let (start_sample, end_sample) =
                (base + vocalisation.detection.start_sample, base + vocalisation.detection.end_sample);
            Vocalisation { detection: Detection { start_sample, end_sample, ..vocalisation.detection }, ..vocalisation }
        });
        // The warm-up is analysed a second time.
        let stored_before = self.stored_before;
        self.waiting.extend(placed.filter(|vocalisation| vocalisation.detection.end_sample > stored_before));
    }

    /// Everything before this sample is decided and handed out.
    fn settled_sample(&self) -> u64 {
        let decided = (self.base_sample + self.analyzer.decided_until()).min(self.next_sample);
        self.waiting.front().map_or(decided, |first| decided.min(first.detection.start_sample)).max(self.stored_before)
    }

    fn watermark(&self) -> Watermark {
        let settled_sample = self.settled_sample();
        let again = WARM_UP_SAMPLES + self.setting.clips.pre_roll_samples();
        Watermark {
            node: self.setting.node.clone(),
            boot_id: self.id,
            resume_sequence: settled_sample.saturating_sub(again) / FRAME_SAMPLES / RESUME_FRAMES * RESUME_FRAMES,
            settled_sample,
        }
    }

    /// Hands out the events whose post-roll has come, or all of them if `all`.
    fn hand_out(&mut self, all: bool, find: &mut impl FnMut(Finding)) {
        let setting = Arc::clone(&self.setting);
        let clips = &setting.clips;
        while let Some(first) = self.waiting.front() {
            let clip_end = first.detection.end_sample + clips.post_roll_samples();
            if !all && self.recent.end_sample() < clip_end {
                return;
            }
            let Some(vocalisation) = self.waiting.pop_front() else { return };
            let found = &vocalisation.detection;
            let clip_start = found
                .start_sample
                .max(found.end_sample.saturating_sub(clips.max_length_samples()))
                .saturating_sub(clips.pre_roll_samples());
            let cut = match self.recent.cut(clip_start..clip_end) {
                Some((start_sample, samples)) => {
                    let cut = Cut { boot_id: self.id, start_sample, samples };
                    if clips.speech_gate { without_speech(cut, found) } else { Ok(cut) }
                }
                None => Err(NoClip::AudioGone),
            };
            let mut event = Box::new(self.event(vocalisation));
            if cut == Err(NoClip::Speech) {
                // Nothing is kept of speech.
                event.envelope = None;
            }
            find(Finding::Event { event, cut, watermark: self.watermark() });
        }
    }

    fn event(&self, vocalisation: Vocalisation) -> NewEvent {
        let found = vocalisation.detection;
        // The frames of a detection left an anchor, so there is always a moment.
        let start = self.clock.moment(found.start_sample);
        // Computed from samples, because capture times jitter.
        let length_ns = (found.end_sample - found.start_sample).cast_signed() * clock::NS_A_SAMPLE;
        NewEvent {
            node: self.setting.node.clone(),
            cat: String::new(),
            boot_id: self.id,
            start_sample: found.start_sample,
            end_sample: found.end_sample,
            started_at_ns: start.map_or(0, |moment| moment.unix_ns),
            ended_at_ns: start.map_or(0, |moment| moment.unix_ns.saturating_add(length_ns)),
            started_monotonic_ns: start.map_or(0, |moment| moment.monotonic_ns),
            clock: start.map_or(EventClock::Hub, |moment| moment.clock),
            score: found.score,
            kind: Some(vocalisation.kind.as_str().into()),
            context: found.context,
            measurements: found.measurements,
            features: Some(Box::new(vocalisation.features)),
            envelope: Some(Box::new(vocalisation.envelope)),
        }
    }
}

/// The clip without speech before and after the event, or no clip if it is mostly speech.
fn without_speech(mut cut: Cut, found: &Detection) -> Result<Cut, NoClip> {
    let place = |sample: u64| (sample.saturating_sub(cut.start_sample) as usize).min(cut.samples.len());
    let event = place(found.start_sample)..place(found.end_sample);
    let kept = speech::without_speech(Model::shipped(), &cut.samples, event).ok_or(NoClip::Speech)?;
    cut.start_sample += kept.start as u64;
    cut.samples.truncate(kept.end);
    cut.samples.drain(..kept.start);
    Ok(cut)
}

#[cfg(test)]
pub(crate) mod tests;
