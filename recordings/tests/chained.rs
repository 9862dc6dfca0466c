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

/// Makes the checksum of a page right.
fn checked(page: &mut [u8]) {
    page[22..26].fill(0);
    let mut sum = 0_u32;
    for byte in page.iter() {
        sum ^= u32::from(*byte) << 24;
        for _ in 0..8 {
            sum = if sum >> 31 == 1 { sum << 1 ^ 0x04c1_1db7 } else { sum << 1 };
        }
    }
    page[22..26].copy_from_slice(&sum.to_le_bytes());
}

/// The places where the pages of a file begin.
fn pages(file: &[u8]) -> Vec<usize> {
    let mut places = vec![0];
    loop {
        let at = places[places.len() - 1];
        let table = usize::from(file[at + 26]);
        let content: usize = file[at + 27..at + 27 + table].iter().map(|size| usize::from(*size)).sum();
        let next = at + 27 + table + content;
        if next == file.len() {
            return places;
        }
        places.push(next);
    }
}

/// Gives the stream another number.
fn with_serial(mut file: Vec<u8>, serial: u32) -> Vec<u8> {
    let mut places = pages(&file);
    places.push(file.len());
    for page in places.windows(2) {
        let page = &mut file[page[0]..page[1]];
        page[14..18].copy_from_slice(&serial.to_le_bytes());
        checked(page);
    }
    file
}

/// Changes the first page and makes its checksum right.
fn with_first_page(mut file: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let page_end = pages(&file)[1];
    let page = &mut file[..page_end];
    let table = usize::from(page[26]);
    change(&mut page[27 + table..]);
    checked(page);
    file
}

/// A stream of a codec that nobody knows: its first page, one in the middle and its last.
fn unknown() -> Vec<u8> {
    let page = |(number, flags): (u32, u8)| {
        let mut page = vec![b'O', b'g', b'g', b'S', 0, flags];
        page.extend(u64::from(number).to_le_bytes());
        page.extend(0x5eed_u32.to_le_bytes());
        page.extend(number.to_le_bytes());
        page.extend([0, 0, 0, 0, 1, 80]);
        page.extend([b"Speex   ", &[0; 72][..]].concat());
        checked(&mut page);
        page
    };
    [(0, 2), (1, 0), (2, 4)].into_iter().flat_map(page).collect()
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
    let lost =
        "1 of the 2 streams of the file cannot be read and are left out: one is damaged, or neither Vorbis nor FLAC";
    let cut = "the file is cut off: its last page is missing";
    for (second, warnings) in
        [(broken, &[lost][..]), (one[..40].to_vec(), &[lost, cut]), (one[..one.len() / 2].to_vec(), &[cut])]
    {
        let heard = both(&[one.clone(), second].concat());
        let alone = read(Input::memory(one.clone())).samples;
        assert!(heard.samples.starts_with(&alone), "{} of {} samples", heard.samples.len(), alone.len());
        assert_eq!(heard.warnings, warnings);
    }
}

#[test]
fn a_stream_of_another_codec_is_named_with_what_is_lost_behind_it() {
    for (first, second, heard_of_second, warning) in [
        ("meow.ogg", "meow.ogg", false, "2 of the 3 streams of the file cannot be read"),
        ("meow.oga", "meow.ogg", false, "2 of the 3 streams of the file cannot be read"),
        ("meow.opus", "meow.opus", true, "streams of the file that are not Opus and are left out: 1"),
        ("meow.opus", "meow.ogg", false, "streams of the file that are not Opus and are left out: 2"),
    ] {
        let heard = both(&[file(first), unknown(), file(second)].concat());
        let mut alone = read(Input::memory(file(first))).samples;
        if heard_of_second {
            alone.extend(read(Input::memory(file(second))).samples);
        }
        assert!(heard.samples == alone, "{first}, {second}: {} of {} samples", heard.samples.len(), alone.len());
        assert!(matches!(&heard.warnings[..], [one] if one.starts_with(warning)), "{first}: {:?}", heard.warnings);
    }
}

/// A stream of another codec that begins next to one of Opus, as the sound of a video does.
#[test]
fn a_stream_next_to_opus_is_not_one_that_is_left_out() {
    let (opus, other) = (file("meow.opus"), unknown());
    let (opus_head, other_head) = (pages(&opus)[1], pages(&other)[1]);
    let (opus_first, other_first) = (&opus[..opus_head], &other[..other_head]);
    for first in [[other_first, opus_first], [opus_first, other_first]] {
        let video = [first[0], first[1], &other[other_head..], &opus[opus_head..]].concat();
        let heard = both(&[opus.clone(), video].concat());
        assert_eq!(heard.warnings, [] as [&str; 0]);
    }
}

/// In a file of many pages, the reader goes to the end and back with each stream.
#[test]
fn lost_streams_are_counted_right_in_a_long_file() {
    let one = file("meow.ogg");
    let good: Vec<Vec<u8>> = (0..30).map(|serial| with_serial(one.clone(), serial)).collect();
    let heard = both(&good.concat());
    assert_eq!(heard.samples.len(), 30 * read(Input::memory(one.clone())).samples.len());
    assert_eq!(heard.warnings, [] as [&str; 0]);
    let heard = both(&[good[..20].concat(), unknown(), good[20..].concat()].concat());
    assert_eq!(heard.samples.len(), 20 * read(Input::memory(one)).samples.len());
    let lost = "11 of the 31 streams of the file cannot be read";
    assert!(matches!(&heard.warnings[..], [one] if one.starts_with(lost)), "{:?}", heard.warnings);
}

#[test]
fn an_earlier_stream_that_is_cut_off_or_damaged_is_reported() {
    for name in ["meow.ogg", "meow.oga", "meow.opus"] {
        let whole = file(name);
        let places = pages(&whole);
        let last = places[places.len() - 1];
        let cut = "earlier streams of the file that are cut off: 1";
        let mut damaged = whole.clone();
        damaged[places[places.len() - 2] + 100] ^= 1;
        for (first, wanted) in [(&whole[..last], cut), (&whole[..last + 50], cut), (&damaged, "damaged: ")] {
            let heard = both(&[first, &whole].concat());
            let said = heard.warnings.iter().any(|warning| warning.starts_with(wanted));
            assert!(said, "{name}, {} bytes: {:?}", first.len(), heard.warnings);
        }
    }
}

/// Who hears a radio must know whether the server ended the stream, or this reader did.
#[test]
fn only_what_stops_the_reader_is_why_it_stopped() {
    let one = file("meow.ogg");
    let faster = with_first_page(file("meow.ogg"), |head| head[12..16].copy_from_slice(&22_050_u32.to_le_bytes()));
    let changed = "the sound changes from 16000 Hz, 1 channel to 22050 Hz, 1 channel; the rest was not read";
    for (bytes, why) in [([one.clone(), faster].concat(), Some(changed)), (one[..one.len() / 2].to_vec(), None)] {
        let mut recording = Recording::read_from(Input::stream(Cursor::new(bytes))).unwrap();
        assert_eq!(recording.stopped(), None);
        let mut samples = Vec::new();
        while recording.read(&mut samples).unwrap() > 0 {}
        assert!(!recording.warnings().is_empty());
        assert_eq!(recording.stopped(), why);
    }
}
