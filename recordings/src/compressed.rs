//! What `symphonia` reads: FLAC, MP3, Ogg Vorbis, AAC, MP4, AIFF and CAF.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sound::framer::{FramerError, SOURCE_RATES_HZ};
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::common::Limit;
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

use crate::codecs::Codecs;
use crate::error::RecordingError;
use crate::format::{Format, MAX_CHANNELS};
use crate::input::Input;
use crate::links::SharedLinks;

/// Bytes of a tag or a picture that are kept while the header is read.
const MAX_TAG_BYTES: usize = 64 * 1024;

/// Packets without any sound, one after the other, after which the rest of a file is given up.
const MAX_EMPTY_PACKETS: u32 = 10_000;

/// Samples of one packet, at most. The largest blocks of all formats are far smaller.
const MAX_PACKET_SAMPLES: usize = 1 << 22;

/// Most links of a chained Ogg file (streams one after the other) that are read. For each link of a file, the reader
/// looks for its end, so a hostile file of tiny links would take long. A pipe may have any number of links: it has no
/// end to look for, and a radio station sends a link for each song.
const MAX_LINKS: u32 = 10_000;

/// Seconds that may be missing at the end before it is reported: encoders round to their blocks.
const CUT_OFF_FROM_S: f64 = 0.2;

/// An open file that `symphonia` reads.
pub(crate) struct Compressed {
    name: &'static str,
    reader: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    codecs: &'static Codecs,
    track: u32,
    format: Format,
    /// Whether the input is a file, whose links are counted.
    is_file: bool,
    links: u32,
    /// What the bytes of an Ogg file tell about its links. `None`: another format.
    seen: Option<SharedLinks>,
    /// Frames from the beginning of the recording to the end of this link: what came before the link, and what its
    /// header says. What earlier links lack is not in it; `seen` has their pages.
    frames: Option<u64>,
    delivered: u64,
    /// Decoded samples that came while the file was opened.
    ready: Vec<f32>,
    packet: Vec<f32>,
    damaged: u64,
    ended: bool,
    /// Why the rest was not read.
    stopped: Option<String>,
    warnings: Vec<String>,
}

impl Compressed {
    pub(crate) fn open(input: Input, name: &'static str, codecs: &'static Codecs) -> Result<Self, RecordingError> {
        caught(|| Self::open_unguarded(input, name, codecs))
            .unwrap_or_else(|| Err(RecordingError::Damaged(crashed(name))))
    }

    fn open_unguarded(mut input: Input, name: &'static str, codecs: &'static Codecs) -> Result<Self, RecordingError> {
        let fail = |error| failed(name, error);
        // In a file that is cut off, its reader fails when it looks for the chunks behind the sound.
        input.forward_only = name == "AIFF";
        let is_file = input.left().is_some();
        let seen = name.starts_with("Ogg").then(SharedLinks::default);
        input.links.clone_from(&seen);
        let stream = MediaSourceStream::new(Box::new(input), Default::default());
        let limits = MetadataOptions::default()
            .limit_tag_bytes(Limit::Maximum(MAX_TAG_BYTES))
            .limit_visual_bytes(Limit::Maximum(MAX_TAG_BYTES));
        let reader = codecs.probe.probe(&Hint::new(), stream, FormatOptions::default(), limits).map_err(fail)?;
        let heard = chosen(reader.as_ref(), codecs).map_err(fail)?;
        let Chosen { track, frames, decoder } = heard.ok_or(RecordingError::NoSound(name))?;
        let format = Format { sample_rate_hz: 0, channels: 0 };
        let mut this = Self {
            name,
            reader,
            decoder,
            codecs,
            track,
            format,
            is_file,
            links: 1,
            seen,
            frames,
            delivered: 0,
            ready: Vec::new(),
            packet: Vec::new(),
            damaged: 0,
            ended: false,
            stopped: None,
            warnings: Vec::new(),
        };
        // The header may be wrong about the format (AAC with SBR), so the first packet decides.
        if !this.decode_next()? {
            return Err(RecordingError::Damaged(format!("this {name} file has no sound that can be decoded")));
        }
        std::mem::swap(&mut this.ready, &mut this.packet);
        Ok(this)
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn frames(&self) -> Option<u64> {
        self.frames.map(|frames| frames.saturating_sub(self.delivered))
    }

    #[cfg(feature = "files")]
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    pub(crate) fn read(&mut self, out: &mut Vec<f32>) -> Result<usize, RecordingError> {
        if self.ready.is_empty() {
            if self.ended {
                return Ok(0);
            }
            let Some(decoded) = caught(|| self.decode_next()) else {
                self.end_with(crashed(self.name));
                return Ok(0);
            };
            if !decoded? {
                self.report();
                return Ok(0);
            }
            std::mem::swap(&mut self.ready, &mut self.packet);
        }
        let count = self.ready.len();
        self.delivered += (count / usize::from(self.format.channels)) as u64;
        out.append(&mut self.ready);
        Ok(count)
    }

    /// Decodes packets until one has sound, into `packet`. Returns false at the end.
    fn decode_next(&mut self) -> Result<bool, RecordingError> {
        for _ in 0..MAX_EMPTY_PACKETS {
            let packet = match self.reader.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => {
                    self.look_for_lost_links();
                    return Ok(false);
                }
                Err(Error::IoError(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    self.look_for_lost_links();
                    return Ok(false);
                }
                Err(Error::IoError(error)) => return Err(error.into()),
                Err(Error::ResetRequired) => {
                    if !self.next_link() {
                        return Ok(false);
                    }
                    continue;
                }
                Err(error) => {
                    self.stop(format!("damaged: the rest of the file cannot be read: {error}"));
                    return Ok(false);
                }
            };
            if packet.track_id != self.track {
                continue;
            }
            let buffer = match self.decoder.decode(&packet) {
                Ok(buffer) => buffer,
                Err(Error::DecodeError(_) | Error::IoError(_)) => {
                    self.damaged += 1;
                    continue;
                }
                Err(error) => return Err(failed(self.name, error)),
            };
            let (rate, channels) = (buffer.spec().rate(), buffer.spec().channels().count());
            let samples = buffer.samples_interleaved();
            if samples == 0 || samples > MAX_PACKET_SAMPLES {
                continue;
            }
            let format = checked(rate, channels)?;
            if self.format.channels == 0 {
                self.format = format;
            } else if self.format != format {
                self.stop(changed(self.format, format));
                // Otherwise the frames of this stream would count as missing.
                self.frames = None;
                return Ok(false);
            }
            self.packet.clear();
            buffer.copy_to_vec_interleaved(&mut self.packet);
            for sample in &mut self.packet {
                *sample = if sample.is_finite() { *sample } else { 0.0 };
            }
            return Ok(true);
        }
        self.stop("damaged: the rest of the file has no sound that can be decoded".into());
        Ok(false)
    }

    /// Goes on with the next link of a chained file. Returns false if it cannot be read.
    fn next_link(&mut self) -> bool {
        self.links = self.links.saturating_add(1);
        if self.is_file && self.links > MAX_LINKS {
            self.stop(format!("the file has more than {MAX_LINKS} streams; the rest was not read"));
            return false;
        }
        // The tags of the links before would pile up while a radio station is heard.
        self.reader.metadata().skip_to_latest();
        match chosen(self.reader.as_ref(), self.codecs) {
            Ok(Some(Chosen { track, frames, decoder })) => {
                let before = self.delivered + self.waiting_frames();
                (self.track, self.decoder) = (track, decoder);
                self.frames = frames.map(|frames| before + frames);
                true
            }
            Ok(None) => {
                self.stop("a later stream of the file has no sound; the rest was not read".into());
                false
            }
            Err(error) => {
                let why = failed(self.name, error);
                self.stop(format!("a later stream of the file cannot be read: {why}; the rest was not read"));
                false
            }
        }
    }

    /// Frames that are decoded and not delivered.
    fn waiting_frames(&self) -> u64 {
        (self.ready.len() / usize::from(self.format.channels).max(1)) as u64
    }

    /// Says why the rest is not read.
    fn stop(&mut self, why: String) {
        self.stopped = Some(why.clone());
        self.warnings.push(why);
    }

    /// Says at the end of the file which links were passed over: those of a codec that is not known, with all that
    /// follow them, and those whose first pages are damaged.
    fn look_for_lost_links(&mut self) {
        let Some(seen) = self.seen.as_ref().map(SharedLinks::now) else { return };
        let lost = seen.begun.saturating_sub(self.links);
        if lost > 0 {
            let all = seen.begun;
            self.warnings.push(format!(
                "{lost} of the {all} streams of the file cannot be read and are left out: one is damaged, or neither \
                 Vorbis nor FLAC"
            ));
        }
        if !seen.ended {
            self.warnings.push("the file is cut off: its last page is missing".into());
        }
    }

    /// Says at the end what was missing.
    fn report(&mut self) {
        self.ended = true;
        if self.damaged > 0 {
            self.warnings.push(format!("damaged: {} packets could not be decoded", self.damaged));
        }
        if let Some(seen) = self.seen.as_ref().map(SharedLinks::now) {
            if seen.cut > 0 {
                self.warnings.push(format!("earlier streams of the file that are cut off: {}", seen.cut));
            }
            if seen.bad > 0 {
                self.warnings.push(format!("damaged: {} pages of the file could not be read", seen.bad));
            }
        }
        let missing = self.frames().unwrap_or(0) as f64 / f64::from(self.format.sample_rate_hz);
        if missing > CUT_OFF_FROM_S {
            self.warnings.push(format!("the file is cut off: by its header, {missing:.1} s are missing at the end"));
        }
    }

    fn end_with(&mut self, warning: String) {
        self.stop(warning);
        self.report();
    }
}

/// The sound of a file, or of one link of it.
struct Chosen {
    track: u32,
    /// Frames by the header.
    frames: Option<u64>,
    decoder: Box<dyn AudioDecoder>,
}

/// The sound that is heard, with a new decoder. `None`: the file has no sound.
fn chosen(reader: &dyn FormatReader, codecs: &Codecs) -> Result<Option<Chosen>, Error> {
    let Some(track) = reader.default_track(TrackType::Audio) else { return Ok(None) };
    let Some(parameters) = track.codec_params.as_ref().and_then(|all| all.audio()) else { return Ok(None) };
    let decoder = codecs.decoders.make_audio_decoder(parameters, &AudioDecoderOptions::default())?;
    Ok(Some(Chosen { track: track.id, frames: track.num_frames.filter(|frames| *frames > 0), decoder }))
}

/// The words for sound that goes on in another format.
fn changed(from: Format, to: Format) -> String {
    let words = |Format { sample_rate_hz, channels }: Format| {
        format!("{sample_rate_hz} Hz, {channels} {}", if channels == 1 { "channel" } else { "channels" })
    };
    format!("the sound changes from {} to {}; the rest was not read", words(from), words(to))
}

/// Runs code of a library, which must not take the program with it when it panics on a damaged file.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

fn crashed(name: &str) -> String {
    format!("damaged: the decoder for {name} failed at this point")
}

fn failed(name: &str, error: Error) -> RecordingError {
    match error {
        Error::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => incomplete(name),
        Error::IoError(error) => error.into(),
        Error::Unsupported("isomp4: missing moov atom") => incomplete(name),
        Error::Unsupported(what) => {
            RecordingError::Unsupported { name: format!("this {name} file ({what})"), ending: "x" }
        }
        error => RecordingError::Damaged(format!("this {name} file cannot be read: {error}")),
    }
}

/// The index of MP4 may be at the end, and the reader of CAF looks there too.
fn incomplete(name: &str) -> RecordingError {
    RecordingError::Damaged(format!(
        "this {name} file is cut off, or comes from a pipe; give the file itself, or try: ffmpeg -i in.x out.flac"
    ))
}

fn checked(rate: u32, channels: usize) -> Result<Format, RecordingError> {
    let channels = u16::try_from(channels).unwrap_or(u16::MAX);
    if channels == 0 {
        return Err(FramerError::NoChannels.into());
    }
    if channels > MAX_CHANNELS {
        return Err(RecordingError::Channels(channels));
    }
    if !SOURCE_RATES_HZ.contains(&rate) {
        return Err(FramerError::Rate(rate).into());
    }
    Ok(Format { sample_rate_hz: rate, channels })
}
