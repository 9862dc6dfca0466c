use super::*;

const BOOT: u64 = 0xB007;

/// A message of `count` frames whose samples are the numbers of their frames.
fn frames(boot_id: u64, sequence: u64, count: u64) -> ListenResponse {
    let samples = (sequence..sequence + count).flat_map(|n| [n as i16; FRAME_SAMPLES]);
    ListenResponse {
        event: Some(Sent::Frame(AudioFrame {
            boot_id,
            sequence,
            first_sample: sequence * 320,
            captured_monotonic_ns: sequence * 20_000_000,
            captured_unix_ns: 0,
            sample_count: count as u32 * 320,
            encoding: 0,
            audio: samples.flat_map(i16::to_le_bytes).collect::<Vec<u8>>().into(),
        })),
    }
}

fn gap(boot_id: u64, first_sequence: u64, frame_count: u64, reason: proto::GapReason) -> ListenResponse {
    let reason = reason as i32;
    ListenResponse {
        event: Some(Sent::Gap(proto::Gap { boot_id, first_sequence, frame_count, reason, detail: String::new() })),
    }
}

/// The pieces, as `+first..end` for audio and `-first..end reason` for gaps.
fn run(sequencer: &mut Sequencer, messages: Vec<ListenResponse>) -> Vec<String> {
    let mut out = Vec::new();
    for message in messages {
        let taken = sequencer.take(message, |piece| {
            out.push(match piece {
                Piece::Frames(frames) => {
                    let end = frames.sequence + frames.samples.len() as u64 / 320;
                    assert_eq!(frames.samples[0], frames.sequence as i16, "audio and number differ");
                    assert_eq!(frames.captured_monotonic_ns, frames.sequence * 20_000_000);
                    format!("+{}..{end}", frames.sequence)
                }
                Piece::Gap(gap) => {
                    let end = gap.frame_count.map(|count| (gap.first_sequence + count).to_string());
                    format!("-{}..{} {}", gap.first_sequence, end.unwrap_or_default(), gap.reason.as_str())
                }
                Piece::Quiet => "quiet".into(),
            });
        });
        if let Err(error) = taken {
            out.push(error.to_string());
        }
    }
    out
}

#[test]
fn frames_in_order_pass_as_they_are() {
    let mut sequencer = Sequencer::default();
    assert_eq!(sequencer.cursor(), Cursor { boot_id: 0, sequence: 0 });
    let out = run(&mut sequencer, vec![frames(BOOT, 0, 1), frames(BOOT, 1, 5), frames(BOOT, 6, 2)]);
    assert_eq!(out, ["+0..1", "+1..6", "+6..8"]);
    assert_eq!(sequencer.cursor(), Cursor { boot_id: BOOT, sequence: 8 });
}

#[test]
fn what_comes_twice_is_taken_once() {
    let mut sequencer = Sequencer::resume(BOOT, 10);
    let out =
        run(&mut sequencer, vec![frames(BOOT, 5, 5), frames(BOOT, 8, 5), frames(BOOT, 10, 3), frames(BOOT, 13, 1)]);
    assert_eq!(out, ["+10..13", "+13..14"]);
    assert_eq!(sequencer.duplicates(), 5 + 2 + 3);
}

#[test]
fn gaps_pass_and_what_is_skipped_without_one_is_a_gap() {
    let mut sequencer = Sequencer::resume(BOOT, 10);
    let messages = vec![
        gap(BOOT, 8, 7, proto::GapReason::DeviceLost),
        frames(BOOT, 15, 1),
        frames(BOOT, 20, 1),
        gap(BOOT, 0, 21, proto::GapReason::TapeOverwritten),
        gap(BOOT, 30, 2, proto::GapReason::Overrun),
    ];
    let out = run(&mut sequencer, messages);
    assert_eq!(
        out,
        ["-10..15 device_lost", "+15..16", "-16..20 unaccounted", "+20..21", "-21..30 unaccounted", "-30..32 overrun"]
    );
}

#[test]
fn restarted_node_begins_again() {
    let mut sequencer = Sequencer::resume(BOOT, 10);
    let messages = vec![
        gap(BOOT, 10, 0, proto::GapReason::NodeRestarted),
        gap(77, 0, 3, proto::GapReason::TapeOverwritten),
        frames(77, 3, 2),
    ];
    assert_eq!(run(&mut sequencer, messages), ["-10.. node_restarted", "-0..3 tape_overwritten", "+3..5"]);
    assert_eq!(sequencer.cursor(), Cursor { boot_id: 77, sequence: 5 });
}

#[test]
fn every_number_is_accounted_for_once_whatever_comes() {
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut sequencer = Sequencer::default();
    let mut next = 0;
    for _ in 0..2_000 {
        let (sequence, count) = (random(3_000), random(5) + 1);
        let message = if random(4) == 0 {
            gap(BOOT, sequence, count, proto::GapReason::Overrun)
        } else {
            frames(BOOT, sequence, count)
        };
        for line in run(&mut sequencer, vec![message]) {
            let range = line[1..].split(' ').next().unwrap().split_once("..").unwrap();
            assert_eq!(range.0.parse::<u64>().unwrap(), next, "{line}");
            next = range.1.parse().unwrap();
        }
    }
    assert!(next > 2_900);
}

#[test]
fn flac_is_the_same_audio() {
    let Some(Sent::Frame(mut frame)) = frames(BOOT, 7, 5).event else { unreachable!("it is a frame") };
    let plain = decode(&frame).unwrap();
    let mut flac = Vec::new();
    sound::flac::encode(&plain, &mut flac);
    (frame.encoding, frame.audio) = (Encoding::Flac as i32, flac.into());
    assert_eq!(decode(&frame), Some(plain));
    frame.sample_count = 320;
    assert_eq!(decode(&frame), None, "more than the message says");
    for cut in 0..frame.audio.len() - 1 {
        frame.sample_count = 1_600;
        let short = AudioFrame { audio: frame.audio.slice(..cut), ..frame.clone() };
        assert_eq!(decode(&short), None, "cut after {cut} bytes");
    }
}

#[test]
fn nonsense_is_skipped_and_then_missed() {
    let broken = |change: fn(&mut AudioFrame)| {
        let mut message = frames(BOOT, 0, 1);
        if let Some(Sent::Frame(frame)) = &mut message.event {
            change(frame);
        }
        message
    };
    let mut sequencer = Sequencer::default();
    let messages = vec![
        broken(|frame| frame.boot_id = 0),
        broken(|frame| frame.sample_count = 0),
        broken(|frame| frame.sample_count = 321),
        broken(|frame| frame.sample_count = u32::MAX),
        ListenResponse { event: None },
    ];
    assert_eq!(run(&mut sequencer, messages), Vec::<String>::new());
    let short = broken(|frame| frame.audio.truncate(639));
    assert_eq!(
        run(&mut sequencer, vec![short, frames(BOOT, 2, 1)]),
        ["-0..1 undecodable", "-1..2 unaccounted", "+2..3"]
    );
}

#[test]
fn incredible_numbers_are_refused_and_move_nothing() {
    let mut sequencer = Sequencer::default();
    run(&mut sequencer, vec![frames(BOOT, 0, 3)]);
    for (first, count) in [(u64::MAX, 0), (u64::MAX, u64::MAX), (3, u64::MAX), (1 << 36, 1), (3, 1 << 36)] {
        let refused = run(&mut sequencer, vec![gap(BOOT, first, count, proto::GapReason::Overrun)]);
        assert!(refused.len() == 1 && refused[0].ends_with("is not credible"), "{refused:?}");
    }
    let mut message = frames(BOOT, 3, 1);
    if let Some(Sent::Frame(frame)) = &mut message.event {
        frame.sequence = u64::MAX;
    }
    assert_eq!(run(&mut sequencer, vec![message]), [format!("the frame number {} is not credible", u64::MAX)]);
    assert_eq!(sequencer.cursor(), Cursor { boot_id: BOOT, sequence: 3 });
}

#[test]
fn detail_of_a_gap_is_one_short_line() {
    let mut message = gap(BOOT, 0, 1, proto::GapReason::Overrun);
    if let Some(Sent::Gap(gap)) = &mut message.event {
        gap.detail = format!("xrun\n{}", "a".repeat(3_900_000));
    }
    let mut details = Vec::new();
    let taken = Sequencer::default().take(message, |piece| {
        if let Piece::Gap(gap) = piece {
            details.push(gap.detail);
        }
    });
    assert_eq!((taken, details.len(), details[0].len()), (Ok(()), 1, MAX_WORD_BYTES));
    assert!(details[0].starts_with("xrun\u{fffd}aaa"), "{}", details[0]);
}
