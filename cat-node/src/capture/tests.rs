//! The supervisor with a source that follows a script, in simulated time.
//!
//! The value of each sample says when it was captured, so the tape can be checked to the sample.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;

use proto::FRAME_SAMPLES;

use super::*;
use crate::tape::reader::Reader;
use crate::tape::{Piece, Want};

const MS: u64 = 1_000_000;
const RATE_HZ: u64 = 16_000;

/// What the source does next. Lengths are in milliseconds.
#[derive(Debug, Clone)]
enum Step {
    /// Delivers audio, 20 ms per read.
    Play(u64),
    /// Delivers exact zeros.
    Zeros(u64),
    /// Delivers nothing and reports no error.
    Hang(u64),
    /// Loses audio, then delivers 20 ms. Reports how much was lost if `counted`.
    Lose { lost_ms: u64, counted: bool },
    /// Reports an error.
    Fail,
}

/// What opening the source finds. Times and lengths are in milliseconds.
#[derive(Debug, Clone)]
enum Life {
    /// No device until this time since the start.
    AbsentUntil(u64),
    /// Opening takes this long, and then finds no device.
    OpenHangs(u64),
    /// A source that takes these steps and then fails.
    Source(Vec<Step>),
    /// Too many threads hang, at this many attempts.
    Stuck(u32),
    /// A server refuses until this time since the start.
    RefusedUntil(u64),
    /// A path that does not exist.
    Fatal,
    /// A recording that is already at its end.
    Ended,
}

/// The simulated machine. It stops the supervisor at the end of the script.
struct World {
    now_ns: AtomicU64,
    script: Mutex<VecDeque<Life>>,
    opened_at_ms: Mutex<Vec<u64>>,
    /// Each change of the state, with its time in milliseconds.
    states: Mutex<Vec<(u64, SourceState)>>,
    status: Arc<Status>,
    stop: CancellationToken,
    stop_at_ns: u64,
}

impl World {
    fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }

    fn pass_ns(&self, ns: u64) {
        let now_ns = self.now_ns.fetch_add(ns, Ordering::Relaxed) + ns;
        let state = self.status.state();
        let mut states = self.states.lock().unwrap();
        if states.last().is_none_or(|&(_, last)| last != state) {
            states.push((now_ns / MS, state));
        }
        if now_ns >= self.stop_at_ns {
            self.stop.cancel();
        }
    }

    fn open(self: &Arc<Self>) -> Result<Box<dyn Source>, SourceError> {
        // Rounded up, because the supervisor rounds the nanoseconds up to whole frames.
        self.opened_at_ms.lock().unwrap().push(self.now_ns().div_ceil(MS));
        // Opening a device takes time.
        self.pass_ns(30 * MS);
        let mut script = self.script.lock().unwrap();
        loop {
            match script.front_mut() {
                None => {
                    self.stop.cancel();
                    return Err(SourceError::Reopen("the script is over".into()));
                }
                Some(Life::AbsentUntil(until_ms)) if self.now_ns() < *until_ms * MS => {
                    return Err(SourceError::Reopen("no capture device found".into()));
                }
                Some(Life::RefusedUntil(until_ms)) if self.now_ns() < *until_ms * MS => {
                    return Err(SourceError::Refused("wrong password".into()));
                }
                Some(Life::AbsentUntil(_) | Life::RefusedUntil(_)) => {}
                Some(Life::OpenHangs(ms)) => {
                    let ms = *ms;
                    script.pop_front();
                    self.pass_ns(ms * MS);
                    return Err(SourceError::Reopen("opening hangs".into()));
                }
                Some(Life::Stuck(0)) => {}
                Some(Life::Stuck(times)) => {
                    *times -= 1;
                    return Err(SourceError::Stuck("8 threads hang".into()));
                }
                Some(Life::Fatal) => return Err(SourceError::Fatal("no such file".into())),
                Some(Life::Ended) => {
                    return Ok(Box::new(Scripted { world: Arc::clone(self), steps: None }));
                }
                Some(Life::Source(steps)) => {
                    let steps = std::mem::take(steps).into();
                    script.pop_front();
                    return Ok(Box::new(Scripted { world: Arc::clone(self), steps: Some(steps) }));
                }
            }
            script.pop_front();
        }
    }
}

impl Time for Arc<World> {
    fn now_ns(&self) -> u64 {
        World::now_ns(self)
    }

    fn sleep(&self, wait: Duration) {
        self.pass_ns(wait.as_nanos() as u64);
    }
}

struct Scripted {
    world: Arc<World>,
    /// `None`: a recording at its end.
    steps: Option<VecDeque<Step>>,
}

impl Scripted {
    /// Lets time pass, and appends the samples captured meanwhile, or zeros.
    fn deliver(&self, ns: u64, silent: bool, samples: &mut Vec<f32>) {
        let begin_ns = self.world.now_ns();
        self.world.pass_ns(ns);
        for sample in 0..ns * RATE_HZ / 1_000_000_000 {
            let value = if silent { 0 } else { truth(begin_ns + sample * 1_000_000_000 / RATE_HZ) };
            samples.push(f32::from(value) / 32_768.0);
        }
    }
}

/// The sample captured at a time. Never 0 and never clipped.
fn truth(at_ns: u64) -> i16 {
    (at_ns * RATE_HZ / 1_000_000_000 % 16_001) as i16 + 1
}

impl Source for Scripted {
    fn format(&self) -> SourceFormat {
        SourceFormat { sample_rate_hz: RATE_HZ as u32, channels: 1 }
    }

    fn device(&self) -> &str {
        "scripted"
    }

    fn read(&mut self, samples: &mut Vec<f32>, max_wait: Duration) -> Result<Read, SourceError> {
        let Some(steps) = &mut self.steps else { return Ok(Read::Ended) };
        let chunk_ms = |left: &mut u64, most: u64| {
            let chunk = (*left).min(most);
            *left -= chunk;
            chunk
        };
        loop {
            match steps.front_mut() {
                None | Some(Step::Fail) => {
                    steps.clear();
                    return Err(SourceError::Reopen("unplugged".into()));
                }
                Some(Step::Play(0) | Step::Zeros(0) | Step::Hang(0)) => {
                    steps.pop_front();
                }
                Some(step @ (Step::Play(_) | Step::Zeros(_))) => {
                    let silent = matches!(step, Step::Zeros(_));
                    let (Step::Play(left) | Step::Zeros(left)) = step else { unreachable!() };
                    let ms = chunk_ms(left, 20);
                    self.deliver(ms * MS, silent, samples);
                    return Ok(Read::Samples);
                }
                Some(Step::Hang(left)) => {
                    let ms = chunk_ms(left, max_wait.as_millis() as u64);
                    self.world.pass_ns(ms * MS);
                    return Ok(Read::Nothing);
                }
                Some(&mut Step::Lose { lost_ms, counted }) => {
                    steps.pop_front();
                    self.world.pass_ns(lost_ms * MS);
                    self.deliver(20 * MS, false, samples);
                    let lost_samples = if counted { lost_ms * RATE_HZ / 1000 } else { 0 };
                    return Ok(Read::Overrun { lost_samples });
                }
            }
        }
    }
}

/// Length of a sample in nanoseconds, which is the precision of these tests.
const SAMPLE_NS: u64 = 1_000_000_000 / RATE_HZ;

/// A part of the tape, with the number of its first frame and its length.
#[derive(Debug, PartialEq, Eq)]
enum Stretch {
    Audio { first: u64, frames: u64 },
    Gap { first: u64, frames: u64, reason: GapReason },
}

struct Outcome {
    stretches: Vec<Stretch>,
    opened_at_ms: Vec<u64>,
    states: Vec<(u64, SourceState)>,
    status: Arc<Status>,
}

impl Outcome {
    /// When a state was first reached at or after `from_ms`, in milliseconds.
    fn reached_ms(&self, state: SourceState, from_ms: u64) -> u64 {
        let found = self.states.iter().find(|&&(at, seen)| seen == state && at >= from_ms);
        found.unwrap_or_else(|| panic!("{state:?} was not reached after {from_ms} ms: {:?}", self.states)).0
    }

    fn counter(&self, counter: impl Fn(&crate::status::Counters) -> &AtomicU64) -> u64 {
        counter(&self.status.counters).load(Ordering::Relaxed)
    }

    /// Frames of audio on the tape, and frames in its gaps.
    fn totals(&self) -> (u64, u64) {
        self.stretches.iter().fold((0, 0), |(audio, lost), stretch| match stretch {
            Stretch::Audio { frames, .. } => (audio + frames, lost),
            Stretch::Gap { frames, .. } => (audio, lost + frames),
        })
    }
}

/// Runs a script to its end, or for an hour, and checks what always holds. Every number is audio or in a gap. Every
/// frame has the samples of its capture time, and begins on the grid. The counters agree with the tape.
fn run(script: Vec<Life>, settings: CaptureSettings) -> Outcome {
    run_until(script, settings, 3_600_000)
}

fn run_until(script: Vec<Life>, settings: CaptureSettings, stop_at_ms: u64) -> Outcome {
    let tape = Arc::new(Tape::new(NodeClock::start(), usize::MAX / 2));
    let status = Arc::new(Status::new("microphone"));
    let stop = CancellationToken::new();
    let world = Arc::new(World {
        now_ns: AtomicU64::new(0),
        script: Mutex::new(script.into()),
        opened_at_ms: Mutex::default(),
        states: Mutex::default(),
        status: Arc::clone(&status),
        stop: stop.clone(),
        stop_at_ns: stop_at_ms * MS,
    });
    let opener = Arc::clone(&world);
    Supervisor::new(move || opener.open(), Arc::clone(&world), &tape, &status, settings, &stop).run();
    let stretches = read_back(&tape, settings.gain_db == 0.0);
    let outcome = Outcome {
        stretches,
        opened_at_ms: world.opened_at_ms.lock().unwrap().clone(),
        states: world.states.lock().unwrap().clone(),
        status: Arc::clone(&status),
    };
    let (audio, lost) = outcome.totals();
    assert_eq!(outcome.counter(|counters| &counters.frames_captured), audio);
    let counted = outcome.counter(|counters| &counters.frames_lost_device)
        + outcome.counter(|counters| &counters.frames_lost_overrun);
    assert_eq!(counted, lost);
    outcome
}

fn read_back(tape: &Arc<Tape>, check_samples: bool) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut reader = Reader::at(tape, 0);
    let mut samples = Vec::new();
    let mut next = 0;
    // When frame 0 begins, or would have begun.
    let mut origin_ns: Option<i64> = None;
    while let Some(piece) = reader.read(Want { frames: 1, before: u64::MAX, partial: true }, &mut samples) {
        match piece {
            Piece::Audio { first_sequence, captured_monotonic_ns } => {
                assert_eq!(first_sequence, next);
                let frame_origin_ns = captured_monotonic_ns as i64 - (first_sequence * timeline::FRAME_NS) as i64;
                let off_ns = frame_origin_ns.abs_diff(*origin_ns.get_or_insert(frame_origin_ns));
                assert!(off_ns <= SAMPLE_NS, "frame {next} is {off_ns} ns off the grid");
                assert_eq!(samples.len(), FRAME_SAMPLES);
                for (at, &sample) in samples.iter().enumerate().filter(|_| check_samples) {
                    let at_ns = captured_monotonic_ns + at as u64 * SAMPLE_NS;
                    let is_of = |ns| sample == truth(ns);
                    let fits = sample == 0 || is_of(at_ns) || is_of(at_ns - SAMPLE_NS) || is_of(at_ns + SAMPLE_NS);
                    assert!(fits, "sample {at} of frame {next} was captured at another time");
                }
                next += 1;
                match stretches.last_mut() {
                    Some(Stretch::Audio { frames, .. }) => *frames += 1,
                    _ => stretches.push(Stretch::Audio { first: first_sequence, frames: 1 }),
                }
            }
            Piece::Gap(gap) => {
                assert_eq!(gap.first_sequence, next);
                next += gap.frame_count;
                let (first, frames, reason) = (gap.first_sequence, gap.frame_count, gap.reason);
                stretches.push(Stretch::Gap { first, frames, reason });
            }
        }
    }
    assert_eq!(next, tape.next_sequence());
    stretches
}

/// Frames lost between two times in milliseconds, if the audio before them ends with a whole frame.
fn frames_between(from_ms: u64, to_ms: u64) -> u64 {
    (to_ms - from_ms).div_ceil(20)
}

fn defaults() -> CaptureSettings {
    CaptureSettings::default()
}

#[test]
fn healthy_source_gives_every_frame_and_no_gap() {
    let outcome = run(vec![Life::Source(vec![Step::Play(60_000)])], defaults());
    assert_eq!(outcome.stretches, [Stretch::Audio { first: 0, frames: 3_000 }]);
    assert_eq!(outcome.reached_ms(SourceState::Capturing, 0), 70);
    assert_eq!(outcome.counter(|counters| &counters.source_restarts), 0);
}

#[test]
fn source_that_fails_comes_back_after_one_exact_gap() {
    let script = vec![
        Life::Source(vec![Step::Play(10_000), Step::Fail]),
        Life::AbsentUntil(20_000),
        Life::Source(vec![Step::Play(10_000)]),
    ];
    let outcome = run(script, defaults());
    let back_ms = outcome.opened_at_ms.iter().rev().find(|&&at| at < 25_000).unwrap() + 30;
    assert!((20_000..=22_100).contains(&back_ms), "back at {back_ms} ms");
    let gap = frames_between(10_030, back_ms);
    let reason = GapReason::DeviceLost;
    assert_eq!(
        outcome.stretches[..2],
        [Stretch::Audio { first: 0, frames: 500 }, Stretch::Gap { first: 500, frames: gap, reason }]
    );
    assert!(matches!(outcome.stretches[2], Stretch::Audio { first, .. } if first == 500 + gap));
    assert_eq!(outcome.stretches.len(), 3);
    assert!(outcome.reached_ms(SourceState::NoDevice, 0) < 10_200);
    assert!(outcome.reached_ms(SourceState::Capturing, 10_200) < 22_200);
    assert_eq!(outcome.counter(|counters| &counters.source_restarts), 1);
}

#[test]
fn source_that_delivers_nothing_is_noticed_within_two_seconds() {
    let script =
        vec![Life::Source(vec![Step::Play(10_010), Step::Hang(u64::MAX / MS)]), Life::Source(vec![Step::Play(5_000)])];
    let outcome = run(script, defaults());
    let noticed_ms = outcome.reached_ms(SourceState::NoDevice, 0);
    assert!((11_500..12_040).contains(&noticed_ms), "noticed at {noticed_ms} ms");
    // The unfinished frame belongs to the gap.
    let back_ms = outcome.opened_at_ms[1] + 30;
    let gap = Stretch::Gap { first: 500, frames: frames_between(10_030, back_ms), reason: GapReason::DeviceLost };
    assert_eq!(outcome.stretches[1], gap);
    assert!(back_ms < 10_040 + 5_000);
}

#[test]
fn node_without_a_device_at_start_begins_with_a_gap() {
    let script = vec![Life::AbsentUntil(30_000), Life::Source(vec![Step::Play(1_000)])];
    let outcome = run(script, defaults());
    assert!(outcome.reached_ms(SourceState::NoDevice, 0) <= 2_000);
    assert!(matches!(outcome.stretches[0], Stretch::Gap { first: 0, frames: 1_500.., reason: GapReason::DeviceLost }));
    assert!(matches!(outcome.stretches[1], Stretch::Audio { .. }));
}

#[test]
fn subscribers_learn_of_an_outage_while_it_lasts() {
    let script = vec![Life::Source(vec![Step::Play(10_000)]), Life::AbsentUntil(u64::MAX / MS)];
    let outcome = run_until(script, defaults(), 60_000);
    let Stretch::Gap { first: 500, frames, .. } = outcome.stretches[1] else { panic!("{:?}", outcome.stretches) };
    // All of it but the margin, the last piece and the last wait.
    assert!((2_400..=2_475).contains(&frames), "{frames}");
    assert_eq!(outcome.stretches.len(), 2);
}

#[test]
fn flood_of_failures_is_retried_ever_more_slowly() {
    // A source that fails at its first read, for a minute.
    let script = vec![Life::Source(vec![Step::Fail]); 1_000];
    let outcome = run_until(script, defaults(), 60_000);
    let tries = outcome.opened_at_ms.len();
    assert!((30..=70).contains(&tries), "{tries} tries in a minute");
    let waits: Vec<u64> = outcome.opened_at_ms.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(waits.iter().all(|&wait| wait <= 2_100), "{waits:?}");
    assert!(waits[10..].iter().all(|&wait| wait >= 1_000), "{waits:?}");
    assert!(waits[0] <= 300);
}

#[test]
fn server_that_refuses_is_asked_once_a_minute_until_it_does_not() {
    let outcome = run(vec![Life::RefusedUntil(100_000), Life::Source(vec![Step::Play(2000)])], defaults());
    let opened_at_ms = &outcome.opened_at_ms;
    assert!(opened_at_ms[..3].windows(2).all(|pair| pair[1] - pair[0] >= 60_000), "{opened_at_ms:?}");
    assert!(outcome.reached_ms(SourceState::Capturing, 0) < 125_000);
}

#[test]
fn failures_after_a_healthy_time_are_retried_quickly_again() {
    let mut script = vec![Life::Source(vec![Step::Fail]); 10];
    script.push(Life::Source(vec![Step::Play(10_000), Step::Fail]));
    script.push(Life::Source(vec![Step::Play(1_000)]));
    let outcome = run(script, defaults());
    let last_wait_ms = outcome.opened_at_ms[11] - outcome.opened_at_ms[10] - 10_030;
    assert!(last_wait_ms <= 250, "{last_wait_ms} ms");
}

#[test]
fn opening_that_hangs_only_makes_the_gap_longer() {
    let script = vec![
        Life::Source(vec![Step::Play(1_000), Step::Fail]),
        Life::OpenHangs(4_000),
        Life::Source(vec![Step::Play(1_000)]),
    ];
    let outcome = run(script, defaults());
    let back_ms = outcome.opened_at_ms[2] + 30;
    let gap = Stretch::Gap { first: 50, frames: frames_between(1_030, back_ms), reason: GapReason::DeviceLost };
    assert_eq!(outcome.stretches[1], gap);
}

#[test]
fn exact_zeros_are_silence_and_still_on_the_tape() {
    let script = vec![Life::Source(vec![Step::Play(5_000), Step::Zeros(30_000), Step::Play(5_000)])];
    let outcome = run(script, defaults());
    assert_eq!(outcome.stretches, [Stretch::Audio { first: 0, frames: 2_000 }]);
    assert_eq!(outcome.reached_ms(SourceState::Silent, 0), 5_030 + 10_000 + 20);
    assert_eq!(outcome.reached_ms(SourceState::Capturing, 20_000), 35_030 + 40);
}

#[test]
fn short_silence_is_no_fault() {
    let outcome = run(vec![Life::Source(vec![Step::Play(1_000), Step::Zeros(9_900), Step::Play(1_000)])], defaults());
    assert!(outcome.states.iter().all(|&(_, state)| state != SourceState::Silent));
}

#[test]
fn overruns_are_gaps_of_their_length_counted_or_not() {
    for counted in [true, false] {
        let lose = |lost_ms| Step::Lose { lost_ms, counted };
        let script =
            vec![Life::Source(vec![Step::Play(1_000), lose(100), Step::Play(980), lose(7), Step::Play(1_000)])];
        let outcome = run(script, defaults());
        let reason = GapReason::Overrun;
        let expected = [
            Stretch::Audio { first: 0, frames: 50 },
            Stretch::Gap { first: 50, frames: 5, reason },
            Stretch::Audio { first: 55, frames: 50 },
            // 7 ms are lost: the gap has one frame, and 13 ms are skipped.
            Stretch::Gap { first: 105, frames: 1, reason },
            Stretch::Audio { first: 106, frames: 50 },
        ];
        assert_eq!(outcome.stretches, expected, "counted: {counted}");
        assert_eq!(outcome.counter(|counters| &counters.overruns), 2);
        assert_eq!(outcome.counter(|counters| &counters.frames_lost_overrun), 6);
    }
}

#[test]
fn storm_of_overruns_is_accounted_to_the_frame() {
    // 1 ms is lost before every 20 ms.
    let storm = vec![Step::Lose { lost_ms: 1, counted: false }; 1_000];
    let outcome = run(vec![Life::Source(storm)], defaults());
    let (audio, lost) = outcome.totals();
    assert!(audio > 0);
    // The last frame may be unfinished.
    assert!((1_049..=1_050).contains(&(audio + lost)), "{audio} + {lost}");
    assert_eq!(outcome.counter(|counters| &counters.overruns), 1_000);
}

#[test]
fn gain_is_applied_and_full_scale_is_counted() {
    let settings = CaptureSettings { gain_db: 20.0, ..defaults() };
    let outcome = run_until(vec![Life::Source(vec![Step::Play(10_000)])], settings, 1_070);
    // Samples rise from truth(30 ms) on. A gain of 10 takes those from 3277 on beyond full scale.
    let samples = (1_070 - 30) * RATE_HZ / 1000;
    let clipped = (0..samples).filter(|at| truth(30 * MS + at * SAMPLE_NS) >= 3_277).count() as u64;
    assert_eq!(outcome.counter(|counters| &counters.clipped_samples), clipped);
    assert!(outcome.status.level_dbfs().1 > -0.01);
}

#[test]
fn stuck_source_stops_the_heartbeat_until_it_comes_back() {
    let outcome = run_until(vec![Life::Stuck(1_000)], defaults(), 60_000);
    assert!(outcome.status.last_beat_ns() < 1_000 * MS, "a thread that cannot work beats");

    let outcome = run(vec![Life::Stuck(5), Life::Source(vec![Step::Play(10_000)])], defaults());
    assert!(outcome.status.last_beat_ns() > 10_000 * MS);
}

#[test]
fn missing_device_does_not_stop_the_heartbeat() {
    let outcome = run_until(vec![Life::AbsentUntil(u64::MAX / MS)], defaults(), 600_000);
    assert!(outcome.status.last_beat_ns() > 599_000 * MS);
}

#[test]
fn fatal_source_is_not_retried_and_the_node_keeps_running() {
    let outcome = run_until(vec![Life::Fatal], defaults(), 60_000);
    assert_eq!(outcome.opened_at_ms.len(), 1);
    assert_eq!(outcome.status.source().detail, "no such file");
    assert!(outcome.status.last_beat_ns() > 59_000 * MS);
}

#[test]
fn recording_that_ended_is_not_an_outage() {
    let outcome = run_until(vec![Life::Ended], defaults(), 60_000);
    assert_eq!((outcome.status.state(), outcome.stretches.len()), (SourceState::Ended, 0));
    assert!(outcome.status.last_beat_ns() > 59_000 * MS);
}
