//! What the pages of an Opus file say, beyond the packets: how much is played, how loud, and what comes next.
//!
//! The files are made of the packets of `meow.opus`, on pages that are written here.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::io::Cursor;
use std::path::Path;

use recordings::{Input, Recording};

/// Samples per channel of each packet of `meow.opus`.
const PACKET: u64 = 960;

/// The header, the tags and the packets with sound of `meow.opus`.
fn packets() -> Vec<Vec<u8>> {
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/meow.opus")).unwrap();
    let (mut packets, mut packet, mut rest) = (Vec::new(), Vec::new(), &bytes[..]);
    while !rest.is_empty() {
        let (table, mut content) = rest[27..].split_at(usize::from(rest[26]));
        for size in table {
            let (piece, after) = content.split_at(usize::from(*size));
            packet.extend_from_slice(piece);
            if *size < 255 {
                packets.push(std::mem::take(&mut packet));
            }
            content = after;
        }
        rest = content;
    }
    packets
}

fn head(channels: u8, pre_skip: u16, gain: i16) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels);
    head.extend(pre_skip.to_le_bytes());
    head.extend(48_000_u32.to_le_bytes());
    head.extend(gain.to_le_bytes());
    head.push(0);
    head
}

fn checksum(page: &[u8]) -> u32 {
    let mut sum = 0_u32;
    for byte in page {
        sum ^= u32::from(*byte) << 24;
        for _ in 0..8 {
            sum = if sum >> 31 == 1 { sum << 1 ^ 0x04c1_1db7 } else { sum << 1 };
        }
    }
    sum
}

fn page(flags: u8, granule: u64, serial: u32, number: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(granule.to_le_bytes());
    page.extend(serial.to_le_bytes());
    page.extend(number.to_le_bytes());
    page.extend([0; 4]);
    let table: Vec<u8> = packets
        .iter()
        .flat_map(|packet| [vec![255; packet.len() / 255], vec![(packet.len() % 255) as u8]].concat())
        .collect();
    page.push(table.len() as u8);
    page.extend(table);
    page.extend(packets.concat());
    let sum = checksum(&page);
    page[22..26].copy_from_slice(&sum.to_le_bytes());
    page
}

/// A stream of the first 30 packets with sound, ten on a page. Its last page says that it ends with sample `end`.
fn pages(serial: u32, head: &[u8], end: u64) -> Vec<Vec<u8>> {
    let packets = packets();
    let mut pages = vec![page(2, 0, serial, 0, &[head.to_vec()]), page(0, 0, serial, 1, &packets[1..2])];
    for (index, ten) in packets[2..32].chunks(10).enumerate() {
        let (last, number) = (index == 2, index as u32 + 2);
        let granule = if last { end } else { (index as u64 + 1) * 10 * PACKET };
        pages.push(page(if last { 4 } else { 0 }, granule, serial, number, ten));
    }
    pages
}

/// The samples, the frames that were announced, and the warnings. The same from a file and from a pipe.
fn read(file: &[u8]) -> (Vec<f32>, Option<u64>, Vec<String>) {
    let run = |input| {
        let mut recording = Recording::read_from(input).unwrap();
        let (mut samples, mut announced) = (Vec::new(), None);
        while recording.read(&mut samples).unwrap() > 0 {
            let played = samples.len() as u64 / u64::from(recording.format().channels);
            announced = announced.or_else(|| Some(recording.frames()? + played));
        }
        (samples, announced, recording.warnings().to_vec())
    };
    let whole = run(Input::memory(file.to_vec()));
    assert_eq!(run(Input::stream(Cursor::new(file.to_vec()))).0, whole.0);
    whole
}

fn all(end: u64) -> Vec<u8> {
    pages(7, &head(1, 312, 0), end).concat()
}

#[test]
fn samples_before_the_beginning_and_behind_the_end_are_not_played() {
    let (whole, announced, warnings) = read(&all(30 * PACKET));
    assert_eq!((whole.len() as u64, announced), (30 * PACKET - 312, Some(30 * PACKET - 312)));
    assert_eq!(warnings, [] as [&str; 0]);
    assert!(whole.iter().any(|sample| sample.abs() > 0.05), "silent");
    let (more, ..) = read(&pages(7, &head(1, 0, 0), 30 * PACKET).concat());
    assert_eq!(more[312..], whole);
    // Two and a half packets less, so that two packets and a part of the third are left out.
    let end = 30 * PACKET - 2_400;
    let (less, announced, _) = read(&all(end));
    assert_eq!((less.len() as u64, announced), (end - 312, Some(end - 312)));
    assert_eq!(less, whole[..less.len()]);
}

/// As programs write that cut a live stream.
#[test]
fn stream_that_does_not_begin_at_0_is_played_whole() {
    let packets = packets();
    let from = 1_000_000;
    let file = [
        page(2, 0, 7, 0, &[head(1, 0, 0)]),
        page(0, 0, 7, 1, &packets[1..2]),
        page(0, from + 10 * PACKET, 7, 2, &packets[2..12]),
        page(4, from + 15 * PACKET, 7, 3, &packets[12..22]),
    ];
    let (samples, announced, _) = read(&file.concat());
    assert_eq!((samples.len() as u64, announced), (15 * PACKET, Some(15 * PACKET)));
}

#[test]
fn gain_of_the_header_makes_it_louder() {
    let (whole, ..) = read(&all(30 * PACKET));
    // 6.02 dB.
    let (louder, ..) = read(&pages(7, &head(1, 312, 1_541), 30 * PACKET).concat());
    assert!(whole.iter().zip(&louder).all(|(one, two)| (one * 2.0 - two).abs() < 1e-3));
}

#[test]
fn streams_one_after_the_other_are_all_played_with_the_channels_of_the_first() {
    let (whole, ..) = read(&all(30 * PACKET));
    let stereo = pages(8, &head(2, 312, 0), 30 * PACKET).concat();
    let (samples, announced, warnings) = read(&[all(30 * PACKET), stereo.clone()].concat());
    assert_eq!(samples[..whole.len()], whole);
    assert_eq!(samples.len(), 2 * whole.len());
    assert!(samples[whole.len()..].iter().zip(&whole).all(|(one, two)| (one - two).abs() < 1e-3));
    assert_eq!((announced, warnings), (None, vec![]));
    // The packets are mono: both channels are the same.
    let (samples, ..) = read(&stereo);
    assert!(samples.as_chunks().0.iter().zip(&whole).all(|([left, right], one)| left == right && left == one));
}

#[test]
fn damaged_page_costs_what_was_on_it_and_a_cut_one_is_named() {
    let mut pages = pages(7, &head(1, 312, 0), 30 * PACKET);
    let whole = pages.concat();
    pages[3][40] ^= 1;
    let (samples, _, warnings) = read(&pages.concat());
    assert_eq!(samples.len() as u64, 20 * PACKET - 312);
    assert!(warnings[0].contains("damaged"), "{warnings:?}");
    let (samples, _, warnings) = read(&whole[..whole.len() - 1]);
    assert_eq!(samples.len() as u64, 20 * PACKET - 312);
    assert_eq!(warnings, ["the file is cut off within its last page"]);
}

#[test]
fn headers_that_cannot_be_right_are_errors() {
    let family = |family: u8, rest: &[u8]| [&head(3, 0, 0)[..18], &[family], rest].concat();
    for (head, word) in [
        (head(3, 0, 0), "no sound that can be decoded"),
        (head(0, 0, 0), "no sound that can be decoded"),
        (family(1, &[1, 2, 0, 1, 2]), "no sound that can be decoded"),
        (family(1, &[2, 1, 0, 1, 3]), "no sound that can be decoded"),
        (family(1, &[2, 1, 0, 1]), "no sound that can be decoded"),
        (family(1, &[200, 1, 0, 1, 2]), "at most 64"),
        (family(3, &[2, 1, 0, 1, 2]), "Opus with ambisonics"),
    ] {
        let file = pages(7, &head, 30 * PACKET).concat();
        let error = Recording::read_from(Input::memory(file)).err().unwrap().to_string();
        assert!(error.contains(word), "{error}");
    }
}
