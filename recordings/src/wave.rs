//! WAV and its relatives RF64, BW64, RIFX, Wave64 and CAF, read with the patience that recorders need.
//!
//! A header is written before the sound, so its sizes are what the recorder expected. A recorder that lost power, a
//! pipe, or a file beyond 4 GiB leaves sizes that are 0, all ones, too small or too large. This walk compares them with
//! the file and says what it assumed.

use std::io;
use std::path::Path;

use sound::framer::{FramerError, SOURCE_RATES_HZ};

use crate::caf;
use crate::container::{self, Container};
use crate::error::RecordingError;
use crate::format::{Format, MAX_CHANNELS};
use crate::input::Input;
use crate::note::{KEPT, MAX_NOTE_BYTES, MAX_NOTES, Note};
use crate::samples::{Blocks, Coding};

/// Bytes of the file that are decoded at a time, rounded down to whole blocks.
const PIECE_BYTES: usize = 16 * 1024;

/// The same of a pipe, whose other end may write as slowly as sound comes: 64 ms of 8 kHz, 16 bits.
const PIPE_PIECE_BYTES: usize = 1024;

/// Most chunks of a file that are looked at.
const MAX_CHUNKS: usize = 4_096;

/// Bytes of the chunk with the format that are read.
const MAX_FORMAT_BYTES: usize = 1_024;

/// Most bytes of a block of ADPCM. It is a 16-bit field.
const MAX_BLOCK_BYTES: usize = 65_535;

/// What follows the sound without being a chunk is read as sound if it is at least this long: one second of 16 kHz and
/// 16 bits. Shorter rests are padding.
const SOUND_BEHIND_BYTES: u64 = 32_000;

/// What the walk over the chunks found.
struct Found {
    /// The content of the `fmt ` chunk, with the lowest byte of each number first.
    format: Option<Vec<u8>>,
    /// Whether the highest byte of a sample comes first.
    big_endian: bool,
    /// Frames that the file has by its `fact` chunk.
    frames: Option<u64>,
    /// Position of the sound, and its bytes. `None`: to the end of the pipe.
    data: Option<(u64, Option<u64>)>,
    /// Bytes of sound by the `ds64` chunk.
    long_data: Option<u64>,
    notes: Vec<Note>,
    warnings: Vec<String>,
}

/// An open file of the WAV family: RIFF, RF64, BW64, RIFX, Wave64 or CAF.
pub struct Wave {
    input: Input,
    blocks: Blocks,
    big_endian: bool,
    format: Format,
    /// Bytes of sound still to read. `None`: to the end of the pipe.
    left: Option<u64>,
    /// Frames still to deliver, where the header knows them better than the number of bytes.
    frames_left: Option<u64>,
    notes: Vec<Note>,
    warnings: Vec<String>,
    pieces: Vec<u8>,
}

impl Wave {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// See [`RecordingError`].
    pub fn open(path: &Path) -> Result<Self, RecordingError> {
        Self::read_from(Input::open(path)?)
    }

    /// Reads the header of an open file or pipe.
    ///
    /// # Errors
    /// See [`RecordingError`].
    pub fn read_from(mut input: Input) -> Result<Self, RecordingError> {
        match container::tell(&mut input) {
            Ok(Container::Stream(name, ending) | Container::File(name, ending)) => {
                Err(RecordingError::NotWav { name: name.into(), ending })
            }
            Err(RecordingError::Unsupported { name, ending }) => Err(RecordingError::NotWav { name, ending }),
            Ok(container) => Self::walk(input, container),
            Err(error) => Err(error),
        }
    }

    /// Reads the header, and in a file that can go back the chunks behind the sound.
    pub(crate) fn walk(mut input: Input, container: Container) -> Result<Self, RecordingError> {
        input.skip(match container {
            Container::Wave64 => 40,
            Container::Caf => 8,
            _ => 12,
        })?;
        let mut found = Walk { input: &mut input, container }.run()?;
        let Some(head) = found.format else {
            return Err(RecordingError::Damaged(
                "the header does not say how the sound is coded (no fmt chunk)".into(),
            ));
        };
        let (blocks, rate) = blocks(&head)?;
        if found.big_endian && blocks.can_be_cut() {
            return Err(RecordingError::Unsupported { name: "ADPCM in RIFX".into(), ending: "wav" });
        }
        let Some((start, left)) = found.data else {
            return Err(RecordingError::Damaged("the file has no sound (no data chunk)".into()));
        };
        if input.position() != start {
            input.go_to(start)?;
        }
        if left == Some(0) {
            found.warnings.push("the file has a header and no sound".into());
        }
        let format = Format { sample_rate_hz: rate, channels: blocks.channels };
        // Only a block of ADPCM can have more frames than belong to the sound.
        let frames_left = found.frames.filter(|frames| blocks.can_be_cut() && *frames > 0);
        let (notes, warnings, big_endian) = (found.notes, found.warnings, found.big_endian);
        Ok(Self { input, blocks, big_endian, format, left, frames_left, notes, warnings, pieces: Vec::new() })
    }

    /// The rate and the channels.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Frames (samples of each channel) that are still to come, as far as the header and the size of the file tell.
    /// There may be fewer. `None`: only the end will tell.
    pub fn frames(&self) -> Option<u64> {
        let left = self.left?;
        let (whole, rest) = (left / self.blocks.bytes as u64, left % self.blocks.bytes as u64);
        let rest = if self.blocks.can_be_cut() { self.blocks.frames_in(rest as usize) } else { 0 };
        let frames = whole.saturating_mul(self.blocks.frames_in(self.blocks.bytes)).saturating_add(rest);
        Some(self.frames_left.map_or(frames, |told| told.min(frames)))
    }

    /// What the recorder wrote next to the sound. Of a pipe, only what comes before the sound.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// What is odd about the file, in words for people. Complete only after the last [`Wave::read`].
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Appends the next interleaved samples, -1 to 1 except for floats, and always finite: some thousands, the same
    /// number for each channel. Returns how many. 0: the end.
    ///
    /// # Errors
    /// If the file cannot be read on. The samples before are valid.
    pub fn read(&mut self, out: &mut Vec<f32>) -> Result<usize, RecordingError> {
        let block = self.blocks.bytes;
        let piece = if self.input.left().is_some() { PIECE_BYTES } else { PIPE_PIECE_BYTES };
        let most = (piece / block).max(1) * block;
        let most = self.left.map_or(most, |left| usize::try_from(left).unwrap_or(usize::MAX).min(most));
        if most == 0 || self.frames_left == Some(0) {
            return Ok(0);
        }
        let ready = self.input.peek(most)?;
        let got = ready.len();
        let cut = got < most;
        let whole = if self.blocks.can_be_cut() { got } else { got / block * block };
        self.pieces.clear();
        self.pieces.extend_from_slice(&ready[..whole]);
        if self.big_endian {
            let width = self.blocks.bytes / usize::from(self.format.channels);
            self.pieces.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
        self.input.advance(got);
        if cut {
            if let Some(left) = self.left {
                let lost = (left - whole as u64).div_ceil(block as u64) * self.blocks.frames_in(block);
                self.warnings.push(cut_off(lost as f64 / f64::from(self.format.sample_rate_hz)));
            }
            self.left = Some(0);
        } else if let Some(left) = &mut self.left {
            *left -= most as u64;
        }
        let before = out.len();
        self.blocks.decode(&self.pieces, out);
        if let Some(frames) = &mut self.frames_left {
            let channels = usize::from(self.format.channels);
            let wanted = usize::try_from(*frames).unwrap_or(usize::MAX).saturating_mul(channels);
            out.truncate(before.saturating_add(wanted));
            *frames -= ((out.len() - before) / channels) as u64;
        }
        Ok(out.len() - before)
    }
}

impl std::fmt::Debug for Wave {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Wave").field("blocks", &self.blocks).field("left", &self.left).finish_non_exhaustive()
    }
}

fn cut_off(seconds: f64) -> String {
    format!("the file is cut off: by its header, {seconds:.1} s are missing at the end")
}

/// The walk over the chunks.
struct Walk<'a> {
    input: &'a mut Input,
    container: Container,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<Found, RecordingError> {
        let mut found = Found {
            format: None,
            big_endian: false,
            frames: None,
            data: None,
            long_data: None,
            notes: Vec::new(),
            warnings: Vec::new(),
        };
        for _ in 0..MAX_CHUNKS {
            let Some((id, size)) = self.chunk()? else { break };
            match &id {
                b"fmt " if found.format.is_none() => {
                    let mut content = self.content(size, MAX_FORMAT_BYTES)?;
                    if self.container == Container::Rifx {
                        swap_fields(&mut content);
                        found.big_endian = true;
                    }
                    found.format = Some(content);
                }
                b"desc" if self.container == Container::Caf && found.format.is_none() => {
                    if let Some(header) = caf::header(&self.content(size, MAX_FORMAT_BYTES)?) {
                        found.format = Some(header.format);
                        found.big_endian = header.big_endian;
                    }
                }
                b"fact" if self.container != Container::Caf => {
                    let content = self.content(size, 4)?;
                    found.frames = self.number(&content, 0, 4);
                }
                b"ds64" => found.long_data = number(&self.content(size, 24)?, 8, 8),
                b"data" if found.data.is_none() => {
                    let mut size = size;
                    if self.container == Container::Caf {
                        // The number of edits.
                        let edits = self.input.take_up_to(4)?.len() as u64;
                        size = if size == u64::MAX { size } else { size.saturating_sub(edits) };
                    }
                    let start = self.input.position();
                    let bytes = self.sound_bytes(size, &mut found)?;
                    found.data = Some((start, bytes));
                    if self.input.left().is_none() {
                        // A pipe cannot go back, so the sound has to be read now.
                        break;
                    }
                    self.skip(bytes.unwrap_or(0))?;
                }
                b"data" => {
                    if size > 0 {
                        found.warnings.push("the file has several data chunks; only the first was read".into());
                    }
                    self.skip(size)?;
                }
                id if KEPT.contains(&id) && found.notes.len() < MAX_NOTES => {
                    let content = self.content(size, MAX_NOTE_BYTES)?;
                    found.notes.push(Note { id: *id, content });
                }
                _ => self.skip(size)?,
            }
        }
        Ok(found)
    }

    /// The name and the size of the next chunk. `None`: the file ends.
    fn chunk(&mut self) -> io::Result<Option<([u8; 4], u64)>> {
        let length = match self.container {
            Container::Wave64 => 24,
            Container::Caf => 12,
            _ => 8,
        };
        let head = self.input.take_up_to(length)?;
        let Some(id) = head.first_chunk().filter(|_| head.len() == length) else { return Ok(None) };
        let size = match self.container {
            Container::Wave64 => number(&head, 16, 8).unwrap_or(0).saturating_sub(24),
            Container::Caf => self.number(&head, 4, 8).unwrap_or(0),
            _ => self.number(&head, 4, 4).unwrap_or(0),
        };
        Ok(Some((*id, size)))
    }

    /// A number of up to 8 bytes in the order of this container.
    fn number(&self, bytes: &[u8], at: usize, length: usize) -> Option<u64> {
        let mut bytes = bytes.get(at..at + length)?.to_vec();
        if matches!(self.container, Container::Rifx | Container::Caf) {
            bytes.reverse();
        }
        number(&bytes, 0, length)
    }

    /// The first bytes of the content of a chunk. The rest is skipped.
    fn content(&mut self, size: u64, most: usize) -> io::Result<Vec<u8>> {
        let count = usize::try_from(size).unwrap_or(usize::MAX).min(most);
        let content = self.input.take_up_to(count)?;
        self.skip_from(size, content.len() as u64)?;
        Ok(content)
    }

    /// Skips a chunk of this size, and what pads it.
    fn skip(&mut self, size: u64) -> io::Result<()> {
        self.skip_from(size, 0)
    }

    fn skip_from(&mut self, size: u64, taken: u64) -> io::Result<()> {
        self.input.skip(size - taken.min(size))?;
        match self.container {
            Container::Wave64 => return self.input.skip(size.wrapping_neg() % 8),
            Container::Caf => return Ok(()),
            _ => {}
        }
        if size % 2 == 1 {
            // Some programs forget to pad. Then the next name begins at once.
            let next = self.input.peek(5)?;
            let unpadded = next.len() == 5 && is_name(&next[..4]) && !is_name(&next[1..]);
            self.input.skip(u64::from(!unpadded))?;
        }
        Ok(())
    }

    /// How many bytes of sound there are, by the header and the file. `None`: to the end of the pipe.
    fn sound_bytes(&mut self, told: u64, found: &mut Found) -> io::Result<Option<u64>> {
        let size = match found.long_data {
            Some(long) if told == u64::from(u32::MAX) && long > 0 => long,
            _ => told,
        };
        let open = match self.container {
            Container::Wave64 => false,
            Container::Caf => size == u64::MAX,
            _ => found.long_data.is_none_or(|long| long == 0) && is_open(size),
        };
        let Some(rest) = self.input.left() else {
            return Ok(if open || size == 0 { None } else { Some(size) });
        };
        if open && size > rest {
            return Ok(Some(rest));
        }
        if size > rest {
            found.warnings.push(format!(
                "the file is cut off: it has {rest} of the {size} bytes of sound that its header announces"
            ));
            return Ok(Some(rest));
        }
        let behind = rest - size;
        if behind < 2 || (self.container == Container::Wave64 && behind < 24) {
            return Ok(Some(if size == 0 { rest } else { size }));
        }
        if self.a_chunk_follows(size)? {
            return Ok(Some(size));
        }
        if size == 0 {
            found.warnings.push(
                "the recorder did not finish the header (the size of the sound is 0); read to the end of the file"
                    .into(),
            );
            return Ok(Some(rest));
        }
        if behind >= SOUND_BEHIND_BYTES {
            found.warnings.push(format!(
                "the header announces {size} bytes of sound, but {behind} more follow; read to the end of the file"
            ));
            return Ok(Some(rest));
        }
        Ok(Some(size))
    }

    /// Whether a chunk begins where the sound should end. The position stays.
    fn a_chunk_follows(&mut self, size: u64) -> io::Result<bool> {
        let start = self.input.position();
        let mut follows = false;
        let pads: &[u64] = match self.container {
            Container::Wave64 => &[size.wrapping_neg() % 8],
            Container::Riff | Container::Rifx if size % 2 == 1 => &[1, 0],
            _ => &[0],
        };
        for &pad in pads {
            self.input.go_to(start + size + pad)?;
            if let Some((id, next)) = self.chunk()? {
                let fits = self.input.left().is_some_and(|left| next <= left);
                follows |= is_name(&id) && (fits || KEPT.contains(&&id));
            }
        }
        self.input.go_to(start)?;
        Ok(follows)
    }
}

/// Whether a size means "unknown": what programs write before a sound of unknown length (ffmpeg, sox, arecord).
fn is_open(size: u64) -> bool {
    matches!(size, 0xffff_ff00..=0xffff_ffff | 0x7fff_ff00..=0x8000_0000 | 0x7fff_f000)
}

/// Whether four bytes can be the name of a chunk.
fn is_name(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| (0x20..0x7f).contains(byte)) && bytes.iter().any(u8::is_ascii_alphanumeric)
}

/// Turns the content of the `fmt ` chunk of a RIFX file into that of a RIFF file.
fn swap_fields(content: &mut [u8]) {
    let mut rest = content;
    // Tag, channels, rate, bytes a second, block, bits, length of the rest, valid bits, speakers, tag.
    for width in [2, 2, 4, 4, 2, 2, 2, 2, 4, 2] {
        let Some((field, after)) = rest.split_at_mut_checked(width) else { return };
        field.reverse();
        rest = after;
    }
}

/// A little-endian number of up to 8 bytes.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + length)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Reads the chunk with the format. The second part of the result is the sample rate in hertz.
fn blocks(head: &[u8]) -> Result<(Blocks, u32), RecordingError> {
    let field = |at, length| number(head, at, length);
    let (Some(mut tag), Some(channels), Some(rate), Some(align)) =
        (field(0, 2), field(2, 2), field(4, 4), field(12, 2))
    else {
        return Err(RecordingError::Damaged("the fmt chunk of the header is too short".into()));
    };
    let bits = field(14, 2).unwrap_or(0);
    if tag == 0xfffe {
        tag = field(24, 2).unwrap_or(0);
    }
    let channels = channels as u16;
    if channels == 0 {
        return Err(FramerError::NoChannels.into());
    }
    if channels > MAX_CHANNELS {
        return Err(RecordingError::Channels(channels));
    }
    let rate = rate as u32;
    if !SOURCE_RATES_HZ.contains(&rate) {
        return Err(FramerError::Rate(rate).into());
    }
    let align = align as usize;
    let count = usize::from(channels);
    // Bytes of one sample. Some programs write a block size that is wrong.
    let needed = (bits as usize).div_ceil(8);
    let width =
        if align.is_multiple_of(count) && (needed..=8).contains(&(align / count)) { align / count } else { needed };
    let plain = |coding, width| Ok(Blocks { coding, channels, bytes: width * count });
    let block_of = |coding, least: usize| {
        if (least * count..=MAX_BLOCK_BYTES).contains(&align) {
            Ok(Blocks { coding, channels, bytes: align })
        } else {
            Err(RecordingError::Damaged(format!("blocks of {align} bytes are too small for ADPCM")))
        }
    };
    let blocks = match (tag, width) {
        (1, 1) => plain(Coding::Unsigned8, 1),
        (1, 4) if (17..=24).contains(&bits) || valid_bits(head) == Some(24) => plain(Coding::Loose24(None), 4),
        (1, 2..=4) => plain(Coding::Signed(width), width),
        (3, 4) => plain(Coding::Float32, 4),
        (3, 8) => plain(Coding::Float64, 8),
        (2, _) => block_of(Coding::Microsoft, 8),
        (6, _) => plain(Coding::ALaw, 1),
        (7, _) => plain(Coding::MuLaw, 1),
        (0x11, _) if bits == 4 => block_of(Coding::Ima, 8),
        (tag, _) => Err(RecordingError::Unsupported { name: name_of(tag, bits), ending: "wav" }),
    };
    Ok((blocks?, rate))
}

/// The valid bits of WAVE_FORMAT_EXTENSIBLE.
fn valid_bits(head: &[u8]) -> Option<u64> {
    (number(head, 0, 2) == Some(0xfffe)).then(|| number(head, 18, 2)).flatten()
}

/// The name of a coding that is not supported.
fn name_of(tag: u64, bits: u64) -> String {
    let name = match tag {
        1 => return format!("WAV with samples of {bits} bits"),
        3 => return format!("WAV with floats of {bits} bits"),
        0x11 => return format!("IMA ADPCM of {bits} bits"),
        0x31 => "GSM 6.10",
        0x50 => "MP2 in WAV",
        0x55 => "MP3 in WAV",
        0x40 | 0x45 | 0x64 => "G.726",
        0x160..=0x163 => "WMA in WAV",
        0xff | 0x1600 | 0x1601 => "AAC in WAV",
        0x674f..=0x6771 => "Ogg Vorbis in WAV",
        _ => return format!("WAV with coding {tag:#06x}"),
    };
    name.into()
}

#[cfg(test)]
mod tests;
