//! A tape in memory: numbers, gaps and readers.

use std::sync::Arc;

use super::reader::Reader;
use super::*;

fn tape(capacity_frames: usize) -> Arc<Tape> {
    Arc::new(Tape::new(NodeClock::start(), capacity_frames * FRAME_BYTES))
}

/// Frame `n`, with the samples n, n+1, ... Its capture time is 20 ms * n.
fn frame(n: u64) -> [i16; FRAME_SAMPLES] {
    std::array::from_fn(|i| (n as usize + i) as i16)
}

fn write(tape: &Tape, frames: u64) {
    for _ in 0..frames {
        let n = tape.next_sequence();
        assert_eq!(tape.append_frame(&frame(n), n * 20_000_000), n);
    }
}

/// Reads all there is, checks every sample and time, and returns the pieces as (first, count, reason).
fn read_all(reader: &mut Reader, frames: usize) -> Vec<(u64, u64, Option<GapReason>)> {
    let mut samples = Vec::new();
    let mut pieces = Vec::new();
    while let Some(piece) = reader.read(Want::whole(frames), &mut samples) {
        match piece {
            Piece::Audio { first_sequence, captured_monotonic_ns } => {
                assert_eq!(captured_monotonic_ns, first_sequence * 20_000_000);
                for (k, got) in samples.chunks(FRAME_SAMPLES).enumerate() {
                    assert_eq!(got, frame(first_sequence + k as u64));
                }
                pieces.push((first_sequence, (samples.len() / FRAME_SAMPLES) as u64, None));
            }
            Piece::Gap(gap) => pieces.push((gap.first_sequence, gap.frame_count, Some(gap.reason))),
        }
    }
    pieces
}

/// Checks that the pieces cover every number from `from` to `to` once, in order.
fn assert_seamless(pieces: &[(u64, u64, Option<GapReason>)], from: u64, to: u64) {
    let mut next = from;
    for (first, count, _) in pieces {
        assert_eq!(*first, next);
        next += count;
    }
    assert_eq!(next, to);
}

#[test]
fn boot_id_is_never_0_and_differs() {
    assert_ne!(tape(1).boot_id(), 0);
    assert_ne!(tape(1).boot_id(), tape(1).boot_id());
}

#[test]
fn what_is_written_is_read_whatever_the_piece() {
    let tape = tape(1000);
    write(&tape, 777);
    for frames in [1, 2, 3, 5, 7, 50, 51, 333] {
        let pieces = read_all(&mut Reader::at(&tape, 0), frames);
        let whole = 777 / frames as u64 * frames as u64;
        assert_seamless(&pieces, 0, whole);
        assert!(pieces.iter().all(|piece| piece.1 == frames as u64 && piece.2.is_none()));
    }
}

#[test]
fn old_blocks_are_packed_and_recent_ones_are_not() {
    let tape = tape(1000);
    write(&tape, 200);
    // Four blocks: three plain ones, and the oldest one packed.
    let bytes = tape.extent().bytes;
    assert!(bytes > 150 * 640 && bytes < 160 * 640, "{bytes}");
    write(&tape, 800);
    assert!(tape.extent().bytes < 300 * 640, "{:?}", tape.extent());
    assert_seamless(&read_all(&mut Reader::at(&tape, 13), 5), 13, 998);
}

#[test]
fn full_tape_drops_the_oldest_frame_and_no_more() {
    for capacity in [1, 2, 49, 50, 51, 120] {
        let tape = tape(capacity);
        for _ in 0..300 {
            write(&tape, 1);
            let extent = tape.extent();
            assert_eq!(extent.oldest_sequence, extent.next_sequence.saturating_sub(capacity as u64));
            assert_eq!(extent.capacity_frames, capacity as u64);
        }
        let oldest = 300 - capacity as u64;
        let pieces = read_all(&mut Reader::at(&tape, oldest), 1);
        assert_seamless(&pieces, oldest, 300);
        assert!(pieces.iter().all(|piece| piece.2.is_none()));
    }
}

#[test]
fn late_reader_gets_a_gap_for_what_was_overwritten() {
    let tape = tape(100);
    write(&tape, 250);
    let pieces = read_all(&mut Reader::at(&tape, 30), 1);
    assert_eq!(pieces[0], (30, 120, Some(GapReason::TapeOverwritten)));
    assert_seamless(&pieces, 30, 250);
    assert!(pieces[1..].iter().all(|piece| piece.2.is_none()));
}

#[test]
fn slow_reader_gets_a_gap_for_what_it_missed() {
    let tape = tape(100);
    write(&tape, 10);
    let mut reader = Reader::at(&tape, 0);
    assert_eq!(reader.read(Want::whole(1), &mut Vec::new()).map(|_| reader.cursor()), Some(1));
    write(&tape, 290);
    assert_eq!(reader.behind(), 299);
    let pieces = read_all(&mut reader, 1);
    assert_eq!(pieces[0], (1, 199, Some(GapReason::SubscriberTooSlow)));
    assert_seamless(&pieces, 1, 300);
}

#[test]
fn gaps_take_sequence_numbers_and_end_a_piece() {
    let tape = tape(1000);
    write(&tape, 7);
    tape.append_gap(100, GapReason::DeviceLost, "unplugged");
    tape.append_gap(0, GapReason::Overrun, "");
    tape.append_gap(20, GapReason::DeviceLost, "unplugged");
    tape.append_gap(3, GapReason::Overrun, "");
    write(&tape, 6);
    assert_eq!(
        read_all(&mut Reader::at(&tape, 0), 5),
        [
            (0, 5, None),
            (5, 2, None),
            (7, 120, Some(GapReason::DeviceLost)),
            (127, 3, Some(GapReason::Overrun)),
            (130, 5, None),
        ]
    );
    assert_eq!(read_all(&mut Reader::at(&tape, 50), 5)[0], (50, 77, Some(GapReason::DeviceLost)));
}

#[test]
fn long_outage_does_not_push_audio_off() {
    let tape = tape(100);
    write(&tape, 60);
    tape.append_gap(1_000_000, GapReason::DeviceLost, "");
    write(&tape, 10);
    let pieces = read_all(&mut Reader::at(&tape, 0), 1);
    assert_eq!(pieces[0], (0, 1, None));
    assert_seamless(&pieces, 0, 1_000_070);
}

#[test]
fn a_growing_gap_is_read_in_pieces() {
    let tape = tape(100);
    let mut reader = Reader::live(&tape);
    tape.append_gap(5, GapReason::DeviceLost, "");
    assert_eq!(read_all(&mut reader, 1), [(0, 5, Some(GapReason::DeviceLost))]);
    tape.append_gap(5, GapReason::DeviceLost, "");
    assert_eq!(read_all(&mut reader, 1), [(5, 5, Some(GapReason::DeviceLost))]);
}

#[test]
fn before_and_partial_limit_a_piece() {
    let tape = tape(100);
    write(&tape, 8);
    let mut samples = Vec::new();
    let mut reader = Reader::at(&tape, 0);
    assert!(reader.read(Want { frames: 10, before: 20, partial: false }, &mut samples).is_none());
    assert!(reader.read(Want { frames: 10, before: 6, partial: false }, &mut samples).is_some());
    assert_eq!((reader.cursor(), samples.len()), (6, 6 * FRAME_SAMPLES));
    assert!(reader.read(Want { frames: 10, before: 6, partial: true }, &mut samples).is_none());
    assert!(reader.read(Want { frames: 10, before: 20, partial: true }, &mut samples).is_some());
    assert_eq!(reader.cursor(), 8);
}

#[test]
fn number_beyond_the_tape_means_live() {
    let tape = tape(100);
    write(&tape, 3);
    let mut reader = Reader::at(&tape, 500);
    assert_eq!(reader.cursor(), 3);
    write(&tape, 1);
    assert_eq!(read_all(&mut reader, 1), [(3, 1, None)]);
}

#[test]
fn a_long_detail_is_cut_at_a_character() {
    let tape = tape(100);
    tape.append_gap(1, GapReason::Overrun, &"ü".repeat(500));
    let mut reader = Reader::at(&tape, 0);
    let Some(Piece::Gap(gap)) = reader.read(Want::whole(1), &mut Vec::new()) else { panic!("a gap") };
    assert_eq!(gap.detail, "ü".repeat(100));
}

#[tokio::test]
async fn readers_are_woken() {
    let tape = tape(100);
    let mut reader = Reader::live(&tape);
    let writer = Arc::clone(&tape);
    let thread = std::thread::spawn(move || write(&writer, 100));
    let mut next = 0;
    while next < 100 {
        for (first, count, _) in read_all(&mut reader, 1) {
            assert_eq!(first, next);
            next += count;
        }
        if next < 100 {
            reader.wait().await;
        }
    }
    thread.join().unwrap();
}
