//! Tapes that are longer than memory, on a real disk.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proto::{FRAME_SAMPLES, GapReason};
use sound::synth::{Synth, SynthConfig};

use super::*;
use crate::clock::NodeClock;
use crate::tape::entry::BLOCK_FRAMES;
use crate::tape::reader::Reader;
use crate::tape::{FRAME_BYTES, Gap, Piece, Tape, Want};

/// Longer than any step takes on a machine that is not stuck.
const DEADLINE: Duration = Duration::from_secs(60);

/// Frames of memory: two seconds.
const IN_MEMORY: usize = 100;

struct Taping {
    tape: Arc<Tape>,
    audio: Vec<i16>,
}

impl Taping {
    fn start(dir: &Path, bytes: u64, frames: u64) -> Self {
        let mut audio = vec![0; frames as usize * FRAME_SAMPLES];
        Synth::new(SynthConfig { seed: 5, vocalisations: true }).read(&mut audio);
        let config = SpillConfig { dir: dir.to_owned(), bytes };
        let tape = Tape::new(NodeClock::start(), IN_MEMORY * FRAME_BYTES).spill_to(&config);
        Self { tape: Arc::new(tape), audio }
    }

    fn frame(&self, sequence: u64) -> &[i16] {
        &self.audio[sequence as usize * FRAME_SAMPLES..][..FRAME_SAMPLES]
    }

    /// Captures frames, no faster than the disk writes them.
    async fn capture(&self, frames: u64) {
        for sequence in self.tape.next_sequence()..self.tape.next_sequence() + frames {
            self.tape.append_frame(self.frame(sequence).first_chunk().unwrap(), sequence * 20_000_000);
            if sequence % 1_000 == 999 {
                self.settle().await;
            }
        }
        self.settle().await;
    }

    /// Waits until the thread has answered all requests.
    async fn settle(&self) {
        let fetched = self.tape.spill.as_ref().unwrap().fetch(u64::MAX).expect("the queue has room");
        tokio::time::timeout(DEADLINE, fetched.reply).await.expect("the disk answers").unwrap();
    }

    /// Reads all there is, and checks each sample and time. Returns the gaps as (first, count, reason), and how many
    /// pieces of audio were shorter than wanted.
    async fn read_all(&self, reader: &mut Reader, frames: usize) -> (Vec<(u64, u64, GapReason)>, usize) {
        let (mut samples, mut gaps, mut short) = (Vec::new(), Vec::new(), 0);
        let want = Want { partial: true, ..Want::whole(frames) };
        while reader.behind() > 0 {
            let at = reader.cursor();
            match reader.read(want, &mut samples) {
                None => tokio::time::timeout(DEADLINE, reader.wait()).await.expect("the disk answers"),
                Some(Piece::Gap(gap)) => {
                    assert_eq!(gap.first_sequence, at);
                    gaps.push((gap.first_sequence, gap.frame_count, gap.reason));
                }
                Some(Piece::Audio { first_sequence, captured_monotonic_ns }) => {
                    assert_eq!((first_sequence, captured_monotonic_ns), (at, at * 20_000_000));
                    for (sequence, got) in (at..).zip(samples.chunks(FRAME_SAMPLES)) {
                        assert!(got == self.frame(sequence), "frame {sequence} has other samples");
                    }
                    short += usize::from(samples.len() < frames * FRAME_SAMPLES);
                }
            }
        }
        (gaps, short)
    }

    fn counts(&self) -> SpillCounts {
        self.tape.spill_counts().unwrap()
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn bytes_on_disk(dir: &Path) -> u64 {
    files(dir).iter().map(|file| file.metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn what_left_the_memory_is_read_back_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let taping = Taping::start(dir.path(), 64 << 20, 10_000);
    taping.capture(4_000).await;
    taping.tape.append_gap(500, GapReason::DeviceLost, "unplugged");
    // The samples of a frame depend on its number, so those of the gap are skipped.
    taping.capture(4_020).await;
    assert_eq!(taping.tape.extent().oldest_sequence, 0);
    for (frames, from) in [(1, 0), (5, 0), (5, 13), (7, 2_503), (50, 4_499)] {
        let (gaps, short) = taping.read_all(&mut Reader::at(&taping.tape, from), frames).await;
        assert_eq!(gaps, [(4_000.max(from), 4_500 - 4_000.max(from), GapReason::DeviceLost)], "{frames} from {from}");
        // Before the gap, where memory begins, and at the end.
        assert!(short <= 3, "{short} short pieces of {frames}");
    }
    assert_eq!((taping.counts().failures, taping.counts().lost_frames), (0, 0));
    assert_eq!(taping.counts().bytes, bytes_on_disk(dir.path()));
}

#[tokio::test]
async fn quota_holds_and_what_it_drops_is_one_exact_gap() {
    let dir = tempfile::tempdir().unwrap();
    let quota = 1 << 20;
    let taping = Taping::start(dir.path(), quota, 20_000);
    let mut slow = Reader::at(&taping.tape, 0);
    assert!(slow.read(Want { partial: true, ..Want::whole(5) }, &mut Vec::new()).is_none());
    taping.capture(100).await;
    assert!(slow.read(Want::whole(5), &mut Vec::new()).is_some());
    for _ in 0..10 {
        taping.capture(1_990).await;
        assert!(bytes_on_disk(dir.path()) <= quota, "{}", bytes_on_disk(dir.path()));
    }
    let oldest = taping.tape.extent().oldest_sequence;
    assert!(oldest > 0 && oldest < taping.tape.next_sequence() - IN_MEMORY as u64, "{oldest}");
    let (gaps, _) = taping.read_all(&mut Reader::at(&taping.tape, 7), 5).await;
    assert_eq!(gaps, [(7, oldest - 7, GapReason::TapeOverwritten)]);
    let (gaps, _) = taping.read_all(&mut slow, 5).await;
    assert_eq!(gaps, [(5, oldest - 5, GapReason::SubscriberTooSlow)]);
    assert!(bytes_on_disk(dir.path()) > quota / 2);
}

#[tokio::test]
async fn files_go_at_the_end_and_stale_ones_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("tape-00000000000000000007.spill"), "of a node that was killed").unwrap();
    fs::write(dir.path().join("tape-notes.txt"), "of its owner").unwrap();
    let taping = Taping::start(dir.path(), 1 << 20, 1_000);
    assert_eq!(files(dir.path()).len(), 1);
    taping.capture(1_000).await;
    assert!(files(dir.path()).len() > 1);
    drop(taping);
    // Dropping the tape does not wait long for the disk.
    let start = Instant::now();
    while files(dir.path()).len() > 1 && start.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(files(dir.path()), [dir.path().join("tape-notes.txt")]);
}

#[tokio::test]
async fn disk_that_fails_leaves_the_tape_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let taping = Taping::start(dir.path(), 1 << 20, 3_000);
    taping.capture(1_000).await;
    assert_eq!(taping.tape.extent().oldest_sequence, 0);
    // Like an SD card that was pulled out: the files are gone, and no new ones can be created.
    fs::remove_dir_all(dir.path()).unwrap();
    taping.capture(1_000).await;
    let counts = taping.counts();
    assert_eq!((counts.failures, counts.bytes), (1, 0));
    assert!(counts.lost_frames >= 50, "{counts:?}");
    let extent = taping.tape.extent();
    assert!(extent.next_sequence - extent.oldest_sequence <= (IN_MEMORY + BLOCK_FRAMES) as u64, "{extent:?}");
    let (gaps, _) = taping.read_all(&mut Reader::at(&taping.tape, 0), 5).await;
    assert_eq!(gaps, [(0, extent.oldest_sequence, GapReason::TapeOverwritten)]);
}

#[tokio::test]
async fn disk_that_works_again_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let spill_dir = dir.path().join("tape");
    let mut taping = Taping::start(&spill_dir, 1 << 20, 4_000);
    let config = SpillConfig { dir: spill_dir.clone(), bytes: 1 << 20 };
    Arc::get_mut(&mut taping.tape).unwrap().spill = Some(Spill::start_with(&config, Duration::ZERO).unwrap());
    taping.capture(1_000).await;
    fs::remove_dir_all(&spill_dir).unwrap();
    taping.capture(3_000).await;
    assert_eq!(taping.counts().failures, 1);
    assert!(files(&spill_dir).len() > 1);
    let oldest = taping.tape.extent().oldest_sequence;
    assert!((1_000..2_500).contains(&oldest), "{oldest}");
    let (gaps, _) = taping.read_all(&mut Reader::at(&taping.tape, 0), 5).await;
    assert_eq!(gaps, [(0, oldest, GapReason::TapeOverwritten)]);
}

#[tokio::test]
async fn file_that_another_program_changed_is_a_failure_and_not_audio() {
    let dir = tempfile::tempdir().unwrap();
    let taping = Taping::start(dir.path(), 1 << 20, 1_000);
    taping.capture(1_000).await;
    let first = &files(dir.path())[0];
    let length = first.metadata().unwrap().len() as usize;
    fs::write(first, vec![0x5A; length]).unwrap();
    let oldest_in_memory = taping.tape.lock().oldest_sequence();
    let (gaps, _) = taping.read_all(&mut Reader::at(&taping.tape, 0), 5).await;
    assert_eq!(gaps, [(0, oldest_in_memory, GapReason::TapeOverwritten)]);
    assert_eq!(taping.counts().failures, 1);
}

#[tokio::test]
async fn disk_that_hangs_becomes_an_exact_gap_and_blocks_no_reader() {
    let dir = tempfile::tempdir().unwrap();
    let taping = Taping::start(dir.path(), 1 << 20, 1_000);
    taping.capture(1_000).await;
    // Opening a named pipe hangs until somebody opens its other end.
    let first = &files(dir.path())[0];
    fs::remove_file(first).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(first).status().unwrap().success());
    tokio::time::pause();
    let asked = tokio::time::Instant::now();
    let mut reader = Reader::at(&taping.tape, 0);
    let want = Want { partial: true, ..Want::whole(5) };
    assert!(reader.read(want, &mut Vec::new()).is_none());
    reader.wait().await;
    assert_eq!(asked.elapsed().as_secs(), FETCH_DEADLINE.as_secs());
    let oldest_in_memory = taping.tape.lock().oldest_sequence();
    let lost = Gap {
        first_sequence: 0,
        frame_count: oldest_in_memory,
        reason: GapReason::TapeOverwritten,
        detail: "the disk of the tape did not answer".into(),
    };
    assert_eq!(reader.read(want, &mut Vec::new()), Some(Piece::Gap(lost)));
    assert_eq!(taping.read_all(&mut reader, 5).await.0, []);
    assert_eq!((taping.counts().failures, taping.counts().bytes), (1, 0));
    // Frees the thread, if it hangs by now. Opening both ends at once does not wait.
    drop(File::options().read(true).write(true).open(first));
}

#[test]
fn folder_that_cannot_be_created_leaves_the_tape_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
    let config = SpillConfig { dir: file.join("tape"), bytes: 1 << 20 };
    let tape = Tape::new(NodeClock::start(), IN_MEMORY * FRAME_BYTES).spill_to(&config);
    assert_eq!(tape.spill_counts(), None);
    assert_eq!(tape.append_frame(&[0; FRAME_SAMPLES], 0), 0);
}
