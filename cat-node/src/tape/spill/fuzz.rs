//! Files of the spill that were damaged, or changed by another program.

use fuzzing::{hold, nearly};
use proptest::prelude::*;
use proto::{FRAME_SAMPLES, GapReason};

use super::record::{Records, encode};
use super::shared::FetchedAudio;
use crate::tape::Gap;
use crate::tape::entry::{BLOCK_FRAMES, Block, Entry, Samples};

fn block(first_sequence: u64, frames: usize) -> Entry {
    let captured_ns = (0..frames as u64).collect();
    let samples = (0..frames * FRAME_SAMPLES).map(|n| [0, (n % 90) as i16][n / 3_000 % 2]).collect();
    Entry::Audio(Block { first_sequence, captured_ns, samples: Samples::Plain(samples) })
}

#[test]
fn damaged_file_gives_whole_frames_or_an_error() {
    let gap = Gap { first_sequence: 50, frame_count: 7, reason: GapReason::Overrun, detail: "the card".into() };
    let seeds = vec![
        [encode(&block(0, BLOCK_FRAMES)), encode(&Entry::Gap(gap)), encode(&block(57, 3))].concat(),
        encode(&block(0, 1)),
    ];
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tape");
    hold(1_000, &(nearly(seeds, &["fLaC"]), prop_oneof![0..70_u64, any::<u64>()]), |(bytes, from)| {
        std::fs::write(&path, &bytes).unwrap();
        let mut records = Records::open(&path, bytes.len() as u64).unwrap();
        let mut entries = 0;
        while let Ok(Some(head)) = records.next_from(from) {
            entries += 1;
            prop_assert!(entries <= bytes.len() / 32, "more entries than there is room for");
            let Ok(entry) = records.body(&head) else { break };
            let Entry::Audio(block) = entry else { continue };
            let mut audio = FetchedAudio::empty();
            let frames = block.captured_ns.len();
            let appended = audio.append(block);
            prop_assert!(audio.samples.len() <= (BLOCK_FRAMES + 1) * FRAME_SAMPLES, "{} samples", audio.samples.len());
            if appended.is_ok() {
                prop_assert!(frames <= BLOCK_FRAMES && audio.samples.len() == frames * FRAME_SAMPLES);
            }
        }
        Ok(())
    });
}

#[test]
fn block_with_far_too_much_silence_is_refused_before_it_fills_the_memory() {
    let mut packed = Vec::new();
    sound::flac::encode(&vec![0; 100 * BLOCK_FRAMES * FRAME_SAMPLES], &mut packed);
    let block =
        Block { first_sequence: 0, captured_ns: vec![0; BLOCK_FRAMES], samples: Samples::Packed(packed.into()) };
    let mut audio = FetchedAudio::empty();
    assert!(audio.append(block).is_err());
    assert!(audio.samples.len() <= BLOCK_FRAMES * FRAME_SAMPLES + 1, "{} samples", audio.samples.len());
}
