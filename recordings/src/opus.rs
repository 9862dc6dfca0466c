//! Opus in Ogg (RFC 7845), as messengers, recorders and ffmpeg write it. The packets are decoded by `ruopus`.

use std::collections::VecDeque;

use ruopus::{MultistreamDecoder, OpusDecoder, PacketError};

use crate::compressed::caught;
use crate::error::RecordingError;
use crate::format::{Format, MAX_CHANNELS};
use crate::input::Input;
use crate::ogg::{Page, Pages};

/// Samples per second and channel that the decoder gives. Positions in the file count in the same unit.
const RATE_HZ: u32 = 48_000;

/// What the first packet of a stream begins with.
const MAGIC: &[u8] = b"OpusHead";

/// Samples per channel of the longest packet: 120 ms.
const MAX_PACKET_SAMPLES: usize = 5_760;

/// Most bytes of a packet. The rest of a longer one is not kept.
const MAX_PACKET_BYTES: usize = 512 * 1024;

/// Pages without any sound, one after the other, after which the rest of a file is given up.
const MAX_EMPTY_PAGES: u32 = 10_000;

/// What the first packet of a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    channels: u16,
    /// Samples per channel at the beginning that are not played.
    pre_skip: u64,
    /// 1/256 dB by which the sound is made louder.
    gain: i16,
    streams: u8,
    coupled: u8,
    /// Which decoded channel each channel is. 255: silence.
    mapping: Vec<u8>,
    /// Whether it is plain mono or stereo, which a decoder can give as the other.
    plain: bool,
}

/// What decodes the packets of a stream.
enum Decoder {
    Plain(Box<OpusDecoder>),
    Several(MultistreamDecoder),
}

impl Decoder {
    fn decode(&mut self, packet: &[u8]) -> Result<Vec<f32>, PacketError> {
        match self {
            Self::Plain(decoder) => decoder.decode_packet(packet),
            Self::Several(decoder) => decoder.decode_packet(packet),
        }
    }
}

impl Head {
    /// Reads the header. `None`: it is damaged.
    fn read(packet: &[u8]) -> Result<Option<Self>, RecordingError> {
        let Some(&[version, channels, skip, skip_high, _, _, _, _, gain, gain_high, family]) =
            packet.strip_prefix(MAGIC).and_then(|rest| rest.first_chunk())
        else {
            return Ok(None);
        };
        if version >= 16 || family == 3 {
            let name = if family == 3 { "Opus with ambisonics" } else { "this version of Opus" };
            return Err(RecordingError::Unsupported { name: name.into(), ending: "opus" });
        }
        let count = usize::from(channels);
        let (streams, coupled, mapping) = match (family, packet.get(19..)) {
            (0, _) if channels == 1 => (1, 0, &[0][..]),
            (0, _) if channels == 2 => (1, 1, &[0, 1][..]),
            (1.., Some([streams, coupled, mapping @ ..])) if mapping.len() >= count => {
                (*streams, *coupled, &mapping[..count])
            }
            _ => return Ok(None),
        };
        let decoded = u16::from(streams) + u16::from(coupled);
        let fits = mapping.iter().all(|channel| *channel == 255 || u16::from(*channel) < decoded);
        if channels == 0 || streams == 0 || coupled > streams || decoded > 255 || !fits {
            return Ok(None);
        }
        if u16::from(channels) > MAX_CHANNELS || u16::from(streams) > MAX_CHANNELS {
            return Err(RecordingError::Channels(u16::from(channels.max(streams))));
        }
        Ok(Some(Self {
            channels: u16::from(channels),
            pre_skip: u64::from(u16::from_le_bytes([skip, skip_high])),
            gain: i16::from_le_bytes([gain, gain_high]),
            streams,
            coupled,
            mapping: mapping.to_vec(),
            plain: family == 0,
        }))
    }

    /// By how much the sound is louder.
    fn factor(&self) -> f32 {
        10_f32.powf(f32::from(self.gain) / (20.0 * 256.0))
    }

    /// A decoder that gives this many channels. `None`: it cannot.
    fn decoder(&self, channels: u16) -> Option<Decoder> {
        if self.plain && channels <= 2 {
            return caught(|| Decoder::Plain(Box::new(OpusDecoder::new(usize::from(channels)))));
        }
        if self.channels != channels {
            return None;
        }
        let (streams, coupled) = (usize::from(self.streams), usize::from(self.coupled));
        caught(|| Decoder::Several(MultistreamDecoder::with_rate(RATE_HZ, streams, coupled, &self.mapping)))
    }
}

/// One stream of the file. Files can have several, one after the other.
struct Stream {
    serial: u32,
    head: Head,
    decoder: Decoder,
    /// The number that the next page should have.
    next_page: u32,
    /// Whether its last page came.
    ended: bool,
    /// Whether the second packet, which has the tags, came.
    tags_came: bool,
    /// Samples by the header of the page before. `None`: the first page, or pages are missing.
    position: Option<u64>,
    /// Samples per channel that are still not played.
    skip: u64,
}

/// An open file of Opus in Ogg.
pub(crate) struct Opus {
    pages: Pages,
    stream: Stream,
    /// Whether a stream of Opus is among the first pages that just came. `None`: the page before was no first page.
    beginning: Option<bool>,
    /// Streams of another codec that came after one of Opus, not next to it.
    other: u64,
    /// Earlier streams without their last page.
    cut: u64,
    /// A page that was read and belongs to what comes next.
    waiting: Option<Page>,
    /// The beginning of a packet that goes on with the next page.
    partial: Option<Vec<u8>>,
    /// Samples per channel that each packet of the page has, less those behind the end of the stream.
    packets: VecDeque<(usize, Vec<u8>)>,
    format: Format,
    /// Samples per channel to the end of the file, by its last page.
    frames: Option<u64>,
    delivered: u64,
    damaged: u64,
    ended: bool,
    /// Why the rest was not read.
    stopped: Option<String>,
    warnings: Vec<String>,
}

impl Opus {
    pub(crate) fn open(input: Input) -> Result<Self, RecordingError> {
        let damaged = || RecordingError::Damaged("this Opus file has no sound that can be decoded".into());
        let mut pages = Pages::new(input);
        let page = pages.next()?.ok_or_else(damaged)?;
        let stream = begun(&page, None)?.ok_or_else(damaged)?;
        let format = Format { sample_rate_hz: RATE_HZ, channels: stream.head.channels };
        let end = pages.end_of(stream.serial)?;
        let frames = end.map(|end| end.saturating_sub(stream.head.pre_skip)).filter(|frames| *frames > 0);
        Ok(Self {
            pages,
            stream,
            beginning: Some(true),
            other: 0,
            cut: 0,
            waiting: None,
            partial: None,
            packets: VecDeque::new(),
            format,
            frames,
            delivered: 0,
            damaged: 0,
            ended: false,
            stopped: None,
            warnings: Vec::new(),
        })
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn frames(&self) -> Option<u64> {
        self.frames.map(|frames| frames.saturating_sub(self.delivered))
    }

    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    pub(crate) fn read(&mut self, out: &mut Vec<f32>) -> Result<usize, RecordingError> {
        let mut empty = 0;
        while !self.ended {
            while let Some((frames, packet)) = self.packets.pop_front() {
                let count = self.decode(&packet, frames, out);
                if count > 0 {
                    self.delivered += (count / usize::from(self.format.channels)) as u64;
                    return Ok(count);
                }
            }
            empty += 1;
            if empty > MAX_EMPTY_PAGES {
                self.stop("damaged: the rest of the file has no sound that can be decoded");
                self.report();
            } else if !self.next_page()? {
                self.report();
            }
        }
        Ok(0)
    }

    /// Decodes a packet and appends what of it is played. Returns how many samples these are.
    fn decode(&mut self, packet: &[u8], frames: usize, out: &mut Vec<f32>) -> usize {
        if frames == 0 {
            return 0;
        }
        let channels = usize::from(self.format.channels);
        let decoder = &mut self.stream.decoder;
        let samples = match caught(|| decoder.decode(packet)) {
            Some(Ok(samples)) => samples,
            refused => {
                self.damaged += 1;
                // A decoder that panicked may be in any state.
                if refused.is_none()
                    && let Some(fresh) = self.stream.head.decoder(self.format.channels)
                {
                    self.stream.decoder = fresh;
                }
                // Silence, so that what follows keeps its time.
                vec![0.0; frames_of(packet) * channels]
            }
        };
        let decoded = samples.len() / channels;
        let skipped = self.stream.skip.min(decoded as u64) as usize;
        self.stream.skip -= skipped as u64;
        let played = &samples[skipped * channels..decoded.min(frames).max(skipped) * channels];
        let factor = self.stream.head.factor();
        out.extend(played.iter().map(|sample| {
            let sample = sample * factor;
            if sample.is_finite() { sample } else { 0.0 }
        }));
        played.len()
    }

    /// Takes the packets of the next page. Returns false at the end.
    fn next_page(&mut self) -> Result<bool, RecordingError> {
        let page = match self.waiting.take() {
            Some(page) => page,
            None => match self.pages.next()? {
                Some(page) => page,
                None => return Ok(false),
            },
        };
        if page.first {
            return self.next_stream(&page);
        }
        self.first_pages_end();
        if page.serial != self.stream.serial {
            return Ok(true);
        }
        let complete = page.number == self.stream.next_page;
        self.stream.next_page = page.number.wrapping_add(1);
        self.stream.ended |= page.last;
        if !complete {
            self.damaged += 1;
            self.stream.position = None;
        }
        let packets = self.assemble(&page, complete);
        let mut packets: VecDeque<_> = packets.into_iter().map(|packet| (frames_of(&packet), packet)).collect();
        if !self.stream.tags_came && packets.pop_front().is_some() {
            self.stream.tags_came = true;
        }
        self.damaged += packets.iter().filter(|(frames, _)| *frames == 0).count() as u64;
        let total: u64 = packets.iter().map(|(frames, _)| *frames as u64).sum();
        if let Some(end) = page.granule
            && total > 0
        {
            // A stream of one page begins at 0. Another may begin later, if it was cut out of a longer one.
            let begin = self.stream.position.or((page.last && complete).then_some(0));
            if page.last
                && let Some(wanted) = begin.and_then(|begin| end.checked_sub(begin))
            {
                let mut left = wanted;
                for (frames, _) in &mut packets {
                    *frames = left.min(*frames as u64) as usize;
                    left -= *frames as u64;
                }
            }
            if self.stream.position.is_none() && complete && self.delivered == 0 && !page.last {
                self.frames = self.frames.map(|frames| frames.saturating_sub(end.saturating_sub(total)));
            }
            self.stream.position = Some(end);
        }
        self.packets = packets;
        Ok(true)
    }

    /// The packets that end on a page.
    fn assemble(&mut self, page: &Page, complete: bool) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        let mut partial = self.partial.take().filter(|_| complete && page.continued);
        let mut at = 0;
        for (index, (size, ends)) in page.pieces.iter().enumerate() {
            let piece = &page.content[at..at + size];
            at += size;
            if index == 0 && page.continued && partial.is_none() {
                // Its beginning is missing.
                continue;
            }
            let mut packet = partial.take().unwrap_or_default();
            packet.extend_from_slice(&piece[..piece.len().min(MAX_PACKET_BYTES.saturating_sub(packet.len()))]);
            if *ends {
                packets.push(packet);
            } else {
                self.partial = Some(packet);
            }
        }
        packets
    }

    /// Goes on with a stream that begins within the file.
    fn next_stream(&mut self, page: &Page) -> Result<bool, RecordingError> {
        let opus = page.content.starts_with(MAGIC);
        self.beginning = Some(opus || self.beginning == Some(true));
        // Another kind of stream, next to one of Opus or after it.
        if !opus {
            return Ok(true);
        }
        let Ok(Some(next)) = begun(page, Some(self.format.channels)) else {
            self.stop("the channels change within the file; the rest was not read");
            return Ok(false);
        };
        self.partial = None;
        self.cut += u64::from(!self.stream.ended);
        self.stream = next;
        Ok(true)
    }

    /// Counts a stream of another codec than Opus, once all that begin next to it are known.
    fn first_pages_end(&mut self) {
        self.other += u64::from(self.beginning.take() == Some(false));
    }

    /// Says why the rest is not read.
    fn stop(&mut self, why: &str) {
        self.stopped = Some(why.into());
        self.warnings.push(why.into());
    }

    /// Says at the end what was missing.
    fn report(&mut self) {
        self.ended = true;
        self.first_pages_end();
        if self.other > 0 {
            self.warnings.push(format!("streams of the file that are not Opus and are left out: {}", self.other));
        }
        let damaged = self.damaged + self.pages.skipped;
        if damaged > 0 {
            self.warnings.push(format!("damaged: {damaged} places could not be decoded"));
        }
        if self.cut > 0 {
            self.warnings.push(format!("earlier streams of the file that are cut off: {}", self.cut));
        }
        if self.pages.cut {
            self.warnings.push("the file is cut off within its last page".into());
        } else if self.stopped.is_none() && !self.stream.ended {
            self.warnings.push("the file is cut off: its last page is missing".into());
        }
    }
}

/// The stream that begins on a page. `None`: it is not one of Opus, or is damaged. `channels`: how many it shall give;
/// otherwise as many as it has.
fn begun(page: &Page, channels: Option<u16>) -> Result<Option<Stream>, RecordingError> {
    let size = page.pieces.first().map_or(0, |(size, _)| *size);
    let Some(head) = Head::read(&page.content[..size])? else { return Ok(None) };
    let Some(decoder) = head.decoder(channels.unwrap_or(head.channels)) else { return Ok(None) };
    Ok(Some(Stream {
        serial: page.serial,
        skip: head.pre_skip,
        head,
        decoder,
        next_page: page.number.wrapping_add(1),
        ended: false,
        tags_came: false,
        position: None,
    }))
}

/// Samples per channel of a packet (RFC 6716, section 3.1), 0 if it is damaged.
fn frames_of(packet: &[u8]) -> usize {
    let Some(first) = packet.first() else { return 0 };
    let coding = usize::from(first >> 3);
    let frame = match coding {
        0..=11 => [480, 960, 1_920, 2_880][coding % 4],
        12..=15 => [480, 960][coding % 2],
        _ => [120, 240, 480, 960][coding % 4],
    };
    let count = match first & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => usize::from(packet.get(1).copied().unwrap_or(0) & 63),
    };
    Some(frame * count).filter(|frames| *frames <= MAX_PACKET_SAMPLES).unwrap_or(0)
}
