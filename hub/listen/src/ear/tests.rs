use hub_store::events::GapReason;
use sound::synth::{Synth, SynthConfig};

use super::*;
use crate::sequencer::Gap;

const BOOT: u64 = 0xB007;
const MINUTE: usize = 60 * 16_000;

/// A room with a cat.
pub(crate) fn room(seed: u64, samples: usize) -> Vec<i16> {
    let mut audio = vec![0; samples];
    Synth::new(SynthConfig { seed, vocalisations: true }).read(&mut audio);
    audio
}

fn ear(resumed_from: Option<Watermark>) -> Ear {
    Ear::new("kitchen".into(), ClipsConfig::default(), DetectorConfig::default(), resumed_from)
}

/// Frames from `sequence` on, as they come in messages of 100 ms.
fn messages(boot_id: u64, audio: &[i16], first_sequence: u64) -> impl Iterator<Item = Piece> {
    let from = first_sequence as usize * 320;
    audio[from..].chunks(1_600).enumerate().map(move |(n, samples)| {
        let sequence = first_sequence + 5 * n as u64;
        Piece::Frames(Frames {
            boot_id,
            sequence,
            samples: samples.to_vec(),
            captured_monotonic_ns: sequence * 20_000_000,
            captured_unix_ns: Some(1_000_000_000_000 + sequence.cast_signed() * 20_000_000),
        })
    })
}

fn hear_all(ear: &mut Ear, heard: impl Iterator<Item = Piece>) -> Vec<Finding> {
    let mut found = Vec::new();
    for heard in heard {
        ear.hear(heard, NodeStart::default(), |finding| found.push(finding));
    }
    found
}

fn events(found: &[Finding]) -> Vec<(&NewEvent, Result<&Cut, &NoClip>, &Watermark)> {
    let mut events = Vec::new();
    for finding in found {
        if let Finding::Event { event, cut, watermark } = finding {
            events.push((event.as_ref(), cut.as_ref(), watermark));
        }
    }
    events
}

fn spans(found: &[Finding]) -> Vec<(u64, u64)> {
    events(found).iter().map(|(event, ..)| (event.start_sample, event.end_sample)).collect()
}

/// All events of a recording that is heard without interruption.
pub(crate) fn heard_in_one_go(boot_id: u64, audio: &[i16]) -> Vec<(u64, u64)> {
    let mut ear = ear(None);
    let mut found = hear_all(&mut ear, messages(boot_id, audio, 0));
    ear.flush(|finding| found.push(finding));
    spans(&found)
}

/// Whether two spans are readings of one event, by the store's rule.
pub(crate) fn same(a: (u64, u64), b: (u64, u64)) -> bool {
    let shared = a.1.min(b.1).saturating_sub(a.0.max(b.0));
    2 * shared > (a.1 - a.0).min(b.1 - b.0)
}

#[test]
fn events_lie_where_they_are_and_clips_hold_them_to_the_sample() {
    let audio = room(1, MINUTE);
    let found = hear_all(&mut ear(None), messages(BOOT, &audio, 0));
    let found = events(&found);
    assert!(found.len() >= 5, "{} events in a minute with a cat", found.len());
    for (event, cut, _) in found {
        let cut = cut.expect("the audio is there");
        let start = event.start_sample.saturating_sub(8_000);
        assert_eq!(cut.start_sample, start);
        assert_eq!(cut.samples, audio[start as usize..event.end_sample as usize + 8_000]);
        let start_ns = event.start_sample * 62_500;
        assert_eq!(event.started_monotonic_ns, start_ns);
        assert_eq!(event.started_at_ns, 1_000_000_000_000 + start_ns.cast_signed());
        assert_eq!(
            event.ended_at_ns - event.started_at_ns,
            (event.end_sample - event.start_sample).cast_signed() * 62_500
        );
        assert_eq!(event.clock, EventClock::Node);
    }
}

#[test]
fn event_of_a_node_that_has_run_for_long_is_placed_on_its_count() {
    let audio = room(1, MINUTE);
    let first_sequence = 1_000_000_000;
    let mut moved = Vec::new();
    let mut far = ear(None);
    for heard in messages(BOOT, &audio, 0) {
        let Piece::Frames(mut frames) = heard else { unreachable!("only frames") };
        frames.sequence += first_sequence;
        far.hear(Piece::Frames(frames), NodeStart::default(), |finding| moved.push(finding));
    }
    let offset = first_sequence * 320;
    let back: Vec<_> = spans(&moved).iter().map(|(start, end)| (start - offset, end - offset)).collect();
    assert_eq!(back, spans(&hear_all(&mut ear(None), messages(BOOT, &audio, 0))));
}

/// From any watermark, a new ear finds the events that are missing and no others.
#[test]
fn killed_at_any_moment_nothing_is_missing_and_nothing_doubled() {
    let audio = room(2, 2 * MINUTE);
    let truth = heard_in_one_go(BOOT, &audio);
    assert!(truth.len() >= 10);
    let all: Vec<Piece> = messages(BOOT, &audio, 0).collect();
    for kill_at in (1..all.len()).step_by(17) {
        let mut first = ear(None);
        let found = hear_all(&mut first, all[..kill_at].iter().cloned());
        let mut stored = spans(&found);
        // The periodic watermark, which is later than that of any event.
        let watermark = first.watermark().expect("something was heard");
        let mut second = ear(Some(watermark.clone()));
        let mut found = hear_all(&mut second, messages(BOOT, &audio, watermark.resume_sequence));
        second.flush(|finding| found.push(finding));
        for span in spans(&found) {
            if !stored.iter().any(|known| same(*known, span)) {
                stored.push(span);
            }
        }
        assert_eq!(stored.len(), truth.len(), "killed after message {kill_at}: {stored:?} against {truth:?}");
        for (stored, truth) in stored.iter().zip(&truth) {
            assert!(same(*stored, *truth), "killed after message {kill_at}: {stored:?} against {truth:?}");
        }
    }
}

#[test]
fn watermark_never_passes_what_is_open_and_never_goes_back() {
    let audio = room(3, MINUTE);
    let truth = heard_in_one_go(BOOT, &audio);
    let mut ear = ear(None);
    let (mut handed_out, mut before) = (Vec::new(), 0);
    for heard in messages(BOOT, &audio, 0) {
        ear.hear(heard, NodeStart::default(), |finding| {
            if let Finding::Event { event, .. } = finding {
                handed_out.push((event.start_sample, event.end_sample));
            }
        });
        let settled = ear.watermark().unwrap().settled_sample;
        assert!(settled >= before);
        before = settled;
        let open = truth.iter().find(|span| !handed_out.contains(span));
        assert!(open.is_none_or(|open| settled <= open.0), "{settled} is beyond {open:?}");
    }
    assert!(before > 50 * 16_000, "it goes on: {before}");
}

#[test]
fn gap_ends_the_clip_and_what_waits_for_more() {
    let audio = room(1, MINUTE);
    let first = heard_in_one_go(BOOT, &audio)[0];
    // Shortly after the event's end: within its post-roll, and before the analysis reports it.
    let gap_at = (first.1 + 3_200) / 1_600 * 5;
    let mut ear = ear(None);
    let heard = messages(BOOT, &audio, 0).take(gap_at as usize / 5);
    assert!(events(&hear_all(&mut ear, heard)).is_empty());
    let lost = Gap { reason: GapReason::DeviceLost, ..Gap::skipped(BOOT, gap_at, 100) };
    let found = hear_all(&mut ear, std::iter::once(Piece::Gap(lost)));
    let (event, cut, _) = events(&found)[0];
    assert!(same((event.start_sample, event.end_sample), first));
    let cut = cut.unwrap();
    assert_eq!(cut.start_sample + cut.samples.len() as u64, gap_at * 320, "what came before the gap, and no more");
    let Some(Finding::Gap { gap, watermark }) = found.last() else { panic!("{found:?}") };
    assert_eq!((gap.first_sequence, gap.frame_count, gap.reason), (gap_at, Some(100), GapReason::DeviceLost));
    assert!(watermark.settled_sample <= (gap_at + 100) * 320 && watermark.settled_sample >= event.end_sample);
    // Positions continue after the gap.
    let found = hear_all(&mut ear, messages(BOOT, &audio, gap_at + 100));
    let later = heard_in_one_go(BOOT, &audio);
    for (event, ..) in events(&found) {
        assert!(later.iter().any(|span| same(*span, (event.start_sample, event.end_sample))), "{event:?}");
    }
}

#[test]
fn restart_of_the_node_ends_what_was_open() {
    let audio = room(1, MINUTE);
    let first = heard_in_one_go(BOOT, &audio)[0];
    let in_the_middle = (first.0 + first.1) / 2 / 1_600;
    let mut ear = ear(None);
    assert!(events(&hear_all(&mut ear, messages(BOOT, &audio, 0).take(in_the_middle as usize))).is_empty());
    let over = Gap { frame_count: None, reason: GapReason::NodeRestarted, ..Gap::skipped(BOOT, in_the_middle * 5, 0) };
    let found = hear_all(&mut ear, std::iter::once(Piece::Gap(over)));
    assert!(matches!(found.last(), Some(Finding::Gap { gap, .. }) if gap.frame_count.is_none()));
    let ended = |finding: &Finding| matches!(finding, Finding::Ended { boot_id: BOOT, .. });
    assert_eq!(found.iter().filter(|finding| ended(finding)).count(), 1, "its events may be dated again later");
    // The new boot numbers its frames from 0 again.
    let found = hear_all(&mut ear, messages(77, &audio, 0));
    let (event, _, watermark) = events(&found)[0];
    assert_eq!((event.boot_id, event.start_sample, watermark.boot_id), (77, first.0, 77));
}

#[test]
fn quiet_node_is_not_waited_for() {
    let audio = room(1, MINUTE);
    let first = heard_in_one_go(BOOT, &audio)[0];
    // This post-roll is too long to ever come.
    let clips = ClipsConfig { post_roll_ms: 600_000, ..ClipsConfig::default() };
    let mut ear = Ear::new("kitchen".into(), clips, DetectorConfig::default(), None);
    let found = hear_all(&mut ear, messages(BOOT, &audio, 0));
    assert!(events(&found).is_empty(), "handed out before its post-roll came");
    let found = hear_all(&mut ear, std::iter::once(Piece::Quiet));
    let (event, ..) = events(&found)[0];
    assert_eq!((event.start_sample, event.end_sample), first);
}

#[test]
fn sound_ends_when_nothing_comes_any_more() {
    let audio = room(1, MINUTE);
    let first = heard_in_one_go(BOOT, &audio)[0];
    let mut ear = ear(None);
    let heard = hear_all(&mut ear, messages(BOOT, &audio, 0).take(first.1 as usize / 1_600));
    assert!(events(&heard).is_empty());
    let open = ear.watermark().unwrap();
    assert!(open.settled_sample <= first.0);
    let found = hear_all(&mut ear, (0..QUIETS_THAT_END).map(|_| Piece::Quiet));
    let (event, _, watermark) = events(&found)[0];
    assert!(same((event.start_sample, event.end_sample), first));
    assert!(watermark.settled_sample > first.0);
    assert!(hear_all(&mut ear, (0..100).map(|_| Piece::Quiet)).is_empty(), "it ends once");
}

#[test]
fn node_that_learns_the_time_says_so_once() {
    let mut ear = ear(None);
    let mut learned = Vec::new();
    for (sequence, unix_ns) in [(0, None), (1, None), (2, Some(5_040_000_000)), (3, Some(5_060_000_000))] {
        let frames = Frames {
            boot_id: BOOT,
            sequence,
            samples: vec![0; 320],
            captured_monotonic_ns: sequence * 20_000_000,
            captured_unix_ns: unix_ns,
        };
        ear.hear(Piece::Frames(frames), NodeStart { unix_ns: 5_000_000_001, ..NodeStart::default() }, |finding| {
            learned.push(finding);
        });
    }
    let dating =
        Dating { start_unix_ns: 5_000_000_000, clock: EventClock::Node, instead_of_ns: None, from_monotonic_ns: 0 };
    assert_eq!(learned, [Finding::StartedAt { boot_id: BOOT, dating }]);
}

#[test]
fn memory_is_bounded_however_long_it_listens() {
    let mut ear = ear(None);
    let silence = vec![1_i16; 1_600];
    for n in 0..20_000_u64 {
        let frames = Frames {
            boot_id: BOOT,
            sequence: n * 5,
            samples: silence.clone(),
            captured_monotonic_ns: n * 100_000_000,
            captured_unix_ns: None,
        };
        ear.hear(Piece::Frames(frames), NodeStart::default(), |finding| {
            assert!(!matches!(finding, Finding::Event { .. }));
        });
    }
    let boot = ear.boot.as_ref().unwrap();
    let (start, samples) = boot.recent.cut(0..u64::MAX).unwrap();
    assert!(samples.len() as u64 <= 16 * 16_000 && start > 0, "{}", samples.len());
    assert!(boot.waiting.is_empty());
}

/// A recording that the tests of the signal code play.
fn recorded(name: &str) -> Vec<i16> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sound/tests/clips").join(name);
    hound::WavReader::open(path).unwrap().into_samples().map(Result::unwrap).collect()
}

#[test]
fn what_somebody_says_before_a_cat_is_not_in_its_clip() {
    let (said, meow) = (recorded("speech.wav"), recorded("meow_alone.wav"));
    let mut audio = [vec![0; 16_000], said, vec![0; 4_800]].concat();
    let silent_from = audio.len() as u64 - 4_800;
    audio.extend([meow, vec![0; 48_000]].concat());
    let cut = |speech_gate: bool| {
        let clips = ClipsConfig { pre_roll_ms: 2_000, speech_gate, ..ClipsConfig::default() };
        let mut ear = Ear::new("kitchen".into(), clips, DetectorConfig::default(), None);
        let found = hear_all(&mut ear, messages(BOOT, &audio, 0));
        let [(event, cut, _)] = events(&found)[..] else { panic!("not one event: {found:?}") };
        let cut = cut.unwrap();
        assert!(
            cut.start_sample + 1_600 < event.start_sample
                && cut.start_sample + cut.samples.len() as u64 > event.end_sample
        );
        cut.start_sample
    };
    assert!(cut(false) < silent_from - 4_800, "the control: there are words in it without the gate");
    assert!(cut(true) > silent_from - 3_200, "there are words in it");
}
