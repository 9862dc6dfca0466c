//! Ogg files that have several streams, one after the other: what `cat a.ogg b.ogg` makes, and what a radio station
//! sends, which begins a stream with each song.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::io::Cursor;
use std::path::Path;

use recordings::{Input, Recording};

/// Reads of one file, at most.
const MAX_READS: usize = 100_000;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name)).unwrap()
}

/// The samples, how many frames were announced in all after each piece, and the warnings.
struct Heard {
    samples: Vec<f32>,
    announced: Vec<u64>,
    warnings: Vec<String>,
}

fn read(input: Input) -> Heard {
    let mut recording = Recording::read_from(input).unwrap();
    let channels = usize::from(recording.format().channels);
    let mut heard = Heard { samples: Vec::new(), announced: Vec::new(), warnings: Vec::new() };
    for _ in 0..MAX_READS {
        if recording.read(&mut heard.samples).unwrap() == 0 {
            heard.warnings = recording.warnings().to_vec();
            return heard;
        }
        heard.announced.extend(recording.frames().map(|left| left + (heard.samples.len() / channels) as u64));
    }
    panic!("the recording does not end");
}

/// As a file and as a pipe, which must give the same samples.
fn both(bytes: &[u8]) -> Heard {
    let heard = read(Input::memory(bytes.to_vec()));
    let piped = read(Input::stream(Cursor::new(bytes.to_vec())));
    assert!(piped.samples == heard.samples, "{} and {} samples", piped.samples.len(), heard.samples.len());
    assert_eq!(piped.warnings, heard.warnings);
    heard
}

/// Changes the first page and makes its checksum right.
fn with_first_page(mut file: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let table = usize::from(file[26]);
    let end = 27 + table + file[27..27 + table].iter().map(|size| usize::from(*size)).sum::<usize>();
    let page = &mut file[..end];
    change(&mut page[27 + table..]);
    page[22..26].fill(0);
    let mut sum = 0_u32;
    for byte in page.iter() {
        sum ^= u32::from(*byte) << 24;
        for _ in 0..8 {
            sum = if sum >> 31 == 1 { sum << 1 ^ 0x04c1_1db7 } else { sum << 1 };
        }
    }
    page[22..26].copy_from_slice(&sum.to_le_bytes());
    file
}

#[test]
fn every_stream_is_read() {
    for chain in [
        &["meow.ogg", "meow.ogg"][..],
        &["meow.oga", "meow.oga"],
        &["meow.ogg", "meow.oga", "meow.ogg"],
        &["meow.opus", "meow.opus"],
    ] {
        let links: Vec<Vec<u8>> = chain.iter().map(|name| file(name)).collect();
        let heard = both(&links.concat());
        let alone: Vec<f32> = links.iter().flat_map(|link| read(Input::memory(link.clone())).samples).collect();
        assert!(heard.samples == alone, "{chain:?}: {} of {} samples", heard.samples.len(), alone.len());
        assert_eq!(heard.warnings, [] as [&str; 0], "{chain:?}");
        // What was announced never goes down, and is right in the end.
        assert!(heard.announced.is_sorted(), "{chain:?}: {:?}", heard.announced);
    }
}

#[test]
fn a_stream_in_another_format_ends_the_recording_with_a_warning() {
    let one = file("meow.ogg");
    // The rate is the fourth field of the header, behind type, name, version and channels.
    let faster = with_first_page(file("meow.ogg"), |head| head[12..16].copy_from_slice(&22_050_u32.to_le_bytes()));
    let heard = both(&[one.clone(), faster].concat());
    assert!(heard.samples == read(Input::memory(one)).samples);
    let warning = "the sound changes from 16000 Hz, 1 channel to 22050 Hz, 1 channel; the rest was not read";
    assert_eq!(heard.warnings, [warning]);
}

#[test]
fn a_later_stream_that_is_damaged_does_not_take_the_first_with_it() {
    let one = file("meow.ogg");
    let broken = with_first_page(file("meow.ogg"), |head| head[11] = 0);
    for second in [broken, one[..40].to_vec(), one[..one.len() / 2].to_vec()] {
        let heard = both(&[one.clone(), second].concat());
        let alone = read(Input::memory(one.clone())).samples;
        assert!(heard.samples.starts_with(&alone), "{} of {} samples", heard.samples.len(), alone.len());
    }
}
