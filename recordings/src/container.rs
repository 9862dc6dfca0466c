//! Tells what a file is by its first bytes.

use std::io;

use crate::caf;
use crate::error::RecordingError;
use crate::input::Input;

/// Bytes at the beginning that are looked at.
const HEAD: usize = 64;

/// Most bytes of tags before an MP3 that are skipped to find its first frame.
const MAX_TAG_BYTES: usize = 16 << 20;

/// Opus in Ogg, for people.
pub(crate) const OPUS: &str = "Opus";

/// How the content is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    /// RIFF, RF64 or BW64.
    Riff,
    /// RIFF with the highest byte of each number first.
    Rifx,
    /// Sony's Wave64.
    Wave64,
    /// Apple's Core Audio Format with samples that are not compressed.
    Caf,
    /// A format that is read as a stream and as a file: the words for people, and the usual ending of file names.
    Stream(&'static str, &'static str),
    /// A format that is read as a file only: the same.
    File(&'static str, &'static str),
}

/// Tells the container of a file.
pub(crate) fn tell(input: &mut Input) -> Result<Container, RecordingError> {
    let head = input.peek(HEAD)?.to_vec();
    let at = |offset: usize, text: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(text));
    let unsupported = |name: &str, ending| Err(RecordingError::Unsupported { name: name.into(), ending });
    if head.is_empty() {
        return Err(RecordingError::Empty);
    }
    if at(8, b"WAVE") && (at(0, b"RIFF") || at(0, b"RF64") || at(0, b"BW64")) {
        return Ok(Container::Riff);
    }
    if at(0, b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0") {
        return Ok(Container::Wave64);
    }
    if at(0, b"RIFX") && at(8, b"WAVE") {
        return Ok(Container::Rifx);
    }
    if at(0, b"RIFF") && at(8, b"AVI ") {
        return unsupported("AVI video", "avi");
    }
    if at(0, b"fLaC") {
        return Ok(Container::Stream("FLAC", "flac"));
    }
    if at(0, b"OggS") {
        return ogg(input.peek(512)?);
    }
    if at(0, b"FORM") && (at(8, b"AIFF") || at(8, b"AIFC")) {
        return Ok(Container::File("AIFF", "aiff"));
    }
    if at(0, b"caff") && at(8, b"desc") && head.get(20..).and_then(caf::header).is_some() {
        return Ok(Container::Caf);
    }
    if at(0, b"caff") {
        return Ok(Container::File("CAF", "caf"));
    }
    if at(4, b"ftyp") {
        return Ok(Container::File("MP4", "m4a"));
    }
    if let Some(name) = mpeg(input)? {
        return Ok(Container::Stream(name, if name == "AAC" { "aac" } else { "mp3" }));
    }
    for (magic, name, ending) in [
        (&b"\x1a\x45\xdf\xa3"[..], "Matroska or WebM", "webm"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA", "wma"),
        (b"#!AMR", "AMR", "amr"),
        (b"wvpk", "WavPack", "wv"),
        (b"MAC ", "Monkey's Audio", "ape"),
        (b".snd", "Sun's AU", "au"),
        (b"DSD ", "DSD", "dsf"),
        (b"TTA1", "TTA", "tta"),
    ] {
        if at(0, magic) {
            return unsupported(name, ending);
        }
    }
    Err(RecordingError::NotAudio(if at(0, b"\0\x05\x16\x07") {
        "a companion file of macOS, without sound"
    } else if head.iter().all(|byte| *byte == 0) {
        "it begins with zeros; perhaps the recorder lost power, or the card is damaged"
    } else {
        "the beginning of the file is that of no known audio format"
    }))
}

/// What an Ogg stream holds, by the first packet of its first page.
fn ogg(page: &[u8]) -> Result<Container, RecordingError> {
    let segments = usize::from(page.get(26).copied().unwrap_or(0));
    let packet = page.get(27 + segments..).unwrap_or_default();
    let unsupported = |name: &str, ending| Err(RecordingError::Unsupported { name: name.into(), ending });
    if packet.starts_with(b"\x01vorbis") {
        Ok(Container::Stream("Ogg Vorbis", "ogg"))
    } else if packet.starts_with(b"\x7fFLAC") {
        Ok(Container::Stream("Ogg FLAC", "oga"))
    } else if packet.starts_with(b"OpusHead") {
        Ok(Container::File(OPUS, "opus"))
    } else if packet.starts_with(b"Speex") {
        unsupported("Speex", "spx")
    } else {
        unsupported("this kind of Ogg", "ogg")
    }
}

/// MP3 (or MP2) and AAC have no header of the file. They are told by two frames, one after the other: a single one can
/// be in any file.
fn mpeg(input: &mut Input) -> io::Result<Option<&'static str>> {
    let tag = tag_bytes(input.peek(10)?);
    if tag > MAX_TAG_BYTES {
        return Ok(None);
    }
    let bytes = input.peek(tag + 16 * 1024)?;
    let Some(bytes) = bytes.get(tag..) else { return Ok(None) };
    // Some taggers leave zeros behind the tag.
    let padding = bytes.iter().take_while(|byte| **byte == 0).count();
    let bytes = if tag > 0 { &bytes[padding..] } else { bytes };
    if tag > 0 && bytes.starts_with(b"fLaC") {
        return Ok(Some("FLAC"));
    }
    for (length, name) in [(mpeg_frame(bytes), "MP3"), (adts_frame(bytes), "AAC")] {
        let Some(length) = length else { continue };
        let next = bytes.get(length..).unwrap_or_default();
        let again = if name == "MP3" { mpeg_frame(next) } else { adts_frame(next) };
        if again.is_some() {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// Bytes of an ID3 tag at the beginning, 0 without one.
fn tag_bytes(head: &[u8]) -> usize {
    match head {
        [b'I', b'D', b'3', _, _, flags, a, b, c, d] => {
            let size = [a, b, c, d].iter().fold(0, |size, byte| size << 7 | usize::from(**byte & 0x7f));
            10 + size + if flags & 0x10 != 0 { 10 } else { 0 }
        }
        _ => 0,
    }
}

/// Bytes of the frame of MPEG audio layer II or III that begins here.
fn mpeg_frame(bytes: &[u8]) -> Option<usize> {
    const LAYER_3: [usize; 15] = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
    const LAYER_2: [usize; 15] = [0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384];
    const LOW_RATES: [usize; 15] = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
    let &[0xff, second, third, _, ..] = bytes else { return None };
    let (version, layer) = (second >> 3 & 3, second >> 1 & 3);
    let bit_rates = match (version, layer) {
        (3, 1) => LAYER_3,
        (3, 2) => LAYER_2,
        (0 | 2, 1 | 2) => LOW_RATES,
        _ => return None,
    };
    let kbps = *bit_rates.get(usize::from(third >> 4))?;
    let rate = [44_100, 48_000, 32_000].get(usize::from(third >> 2 & 3))?
        / match version {
            3 => 1,
            2 => 2,
            _ => 4,
        };
    let samples = if layer == 1 && version != 3 { 576 } else { 1152 };
    (second >= 0xe0 && kbps > 0).then(|| samples / 8 * kbps * 1000 / rate + usize::from(third >> 1 & 1))
}

/// Bytes of the ADTS frame of AAC that begins here.
fn adts_frame(bytes: &[u8]) -> Option<usize> {
    let &[0xff, second, third, fourth, fifth, sixth, ..] = bytes else { return None };
    let length = usize::from(fourth & 3) << 11 | usize::from(fifth) << 3 | usize::from(sixth >> 5);
    (second & 0xf6 == 0xf0 && third >> 2 & 15 < 13 && length >= 7).then_some(length)
}
