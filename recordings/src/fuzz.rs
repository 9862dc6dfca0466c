//! Tests of the reader with damaged files of each container.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::path::Path;

use fuzzing::{hold, nearly};
use proptest::prop_assert;
use proptest::test_runner::TestCaseResult;

use crate::input::Input;
use crate::ogg::checksum;
use crate::ogg_page::{CHECKSUM, HEADER};
use crate::recording::Recording;

/// Damaged files of each container that a test reads, unless it runs for a time.
const USUAL: u32 = 50;

/// Bytes of a valid file that are damaged: its header and some of its sound, so that a file takes milliseconds.
const SEED_BYTES: usize = 4_000;

/// Reads of one file, at most.
const MAX_READS: usize = 100_000;

/// Samples of one file, at most: no coding makes more than this of a byte.
const MAX_SAMPLES_PER_BYTE: usize = 50_000;

/// Memory that the process may take, in KiB.
const MAX_MEMORY_KIB: u64 = 512 * 1024;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name)).unwrap()
}

fn seed(name: &str) -> Vec<u8> {
    let mut file = file(name);
    file.truncate(SEED_BYTES);
    file
}

/// Reads damaged files, as they are and from a pipe.
fn reads(seeds: Vec<Vec<u8>>, words: &[&str], mend: fn(&mut [u8])) {
    hold(USUAL, &nearly(seeds, words), |mut bytes| {
        mend(&mut bytes);
        let length = bytes.len();
        ends(Input::memory(bytes.clone()), length)?;
        ends(Input::stream(std::io::Cursor::new(bytes)), length)
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    assert!(peak < MAX_MEMORY_KIB, "{peak} KiB");
}

fn ends(input: Input, length: usize) -> TestCaseResult {
    let Ok(mut recording) = Recording::read_from(input) else { return Ok(()) };
    let channels = usize::from(recording.format().channels);
    let (mut samples, mut count) = (Vec::new(), 0);
    for _ in 0..MAX_READS {
        samples.clear();
        let Ok(read) = recording.read(&mut samples) else { return Ok(()) };
        if read == 0 {
            return Ok(());
        }
        prop_assert!(read == samples.len() && read % channels == 0, "{read} samples of {channels} channels");
        prop_assert!(samples.iter().all(|sample| sample.is_finite()));
        count += read / channels;
        prop_assert!(count <= MAX_SAMPLES_PER_BYTE * (length + 1), "{count} samples of {length} bytes");
    }
    Err(proptest::test_runner::TestCaseError::fail("the recording does not end"))
}

fn as_it_is(_: &mut [u8]) {}

/// Makes the checksums of pages right, because a page with a wrong one is not looked into.
fn seal(bytes: &mut [u8]) {
    let pages: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"OggS")).collect();
    for start in pages {
        let Some(table) = bytes.get(start + HEADER - 1).map(|count| usize::from(*count)) else { continue };
        let Some(sizes) = bytes.get(start + HEADER..start + HEADER + table) else { continue };
        let end = start + HEADER + table + sizes.iter().map(|size| usize::from(*size)).sum::<usize>();
        let Some(page) = bytes.get_mut(start..end) else { continue };
        let sum = checksum(page);
        page[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    }
}

/// A file of the WAV family is short of sound, or its header is wrong, in most of what is made of it.
const WAVE_WORDS: [&str; 8] = ["fmt ", "data", "fact", "LIST", "ds64", "bext", "RIFF", "WAVE"];

#[test]
fn wav() {
    reads(vec![seed("meow-piped.wav"), seed("meow-alaw.wav"), seed("meow-ulaw.wav")], &WAVE_WORDS, as_it_is);
}

#[test]
fn wav_with_adpcm() {
    reads(vec![seed("meow-ima.wav"), seed("meow-ms.wav")], &WAVE_WORDS, as_it_is);
}

#[test]
fn rf64_and_bw64() {
    let mut bw64 = seed("meow-rf64.wav");
    bw64[..4].copy_from_slice(b"BW64");
    reads(vec![seed("meow-rf64.wav"), bw64], &WAVE_WORDS, as_it_is);
}

#[test]
fn rifx() {
    let mut file =
        b"RIFX\0\0\x0f\xa0WAVEfmt \0\0\0\x10\0\x01\0\x01\0\0\x3e\x80\0\0\x7d\0\0\x02\0\x10data\0\0\x0f\x7c".to_vec();
    file.extend((0..1_982_i16).flat_map(|sample| (sample * 7).to_be_bytes()));
    reads(vec![file], &WAVE_WORDS, as_it_is);
}

#[test]
fn wave64() {
    reads(vec![seed("meow.w64")], &WAVE_WORDS, as_it_is);
}

#[test]
fn aiff() {
    reads(vec![seed("meow.aiff")], &["COMM", "SSND", "FORM", "AIFC", "sowt"], as_it_is);
}

#[test]
fn caf() {
    reads(vec![seed("meow.caf")], &["desc", "data", "pakt", "kuki", "lpcm", "alac"], as_it_is);
}

#[test]
fn flac() {
    reads(vec![seed("meow.flac")], &["fLaC"], as_it_is);
}

#[test]
fn mp3() {
    reads(vec![seed("meow.mp3")], &["ID3", "Xing", "Info", "LAME"], as_it_is);
}

#[test]
fn aac() {
    reads(vec![seed("meow.aac")], &[], as_it_is);
}

/// Their index is at the end.
#[test]
fn m4a() {
    let words = ["moov", "trak", "mdat", "stsz", "stco", "stsc", "stts", "esds", "alac", "mp4a"];
    reads(vec![file("meow.m4a"), file("meow-alac.m4a")], &words, as_it_is);
}

#[test]
fn ogg_vorbis() {
    let chain = [file("meow.ogg"), file("meow.ogg")].concat();
    reads(vec![file("meow.ogg"), chain], &["OggS", "\u{1}vorbis", "\u{3}vorbis", "\u{5}vorbis"], seal);
}

#[test]
fn ogg_flac() {
    reads(vec![seed("meow.oga")], &["OggS", "\u{7f}FLAC", "fLaC"], seal);
}

#[test]
fn opus() {
    let short = |name, bytes| file(name)[..bytes].to_vec();
    reads(vec![short("meow-voice.opus", 720), short("meow-stereo.opus", 1_420)], &["OggS", "OpusHead"], seal);
}
