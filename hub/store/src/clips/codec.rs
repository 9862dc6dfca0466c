//! Encodes and decodes clips: WAV or FLAC on disk, each with a comment, WAV for clients.

use std::io::Cursor;

use sound::SAMPLE_RATE_HZ;

use crate::flac;

/// Vendor string of FLAC comments.
const VENDOR: &str = "meowlink";

/// Name of the FLAC comment.
const FLAC_COMMENT: &str = "MEOWLINK";

/// Type of FLAC's metadata block of comments.
const VORBIS_COMMENT: u8 = 4;

/// Where the metadata block after STREAMINFO begins: marker, block header, STREAMINFO.
const AFTER_STREAM_INFO: usize = 4 + 4 + 34;

/// Set in the header of FLAC's last metadata block.
const LAST_BLOCK: u8 = 0x80;

/// Format of a clip on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClipFormat {
    /// WAV: 32 kB a second.
    Wav,
    /// FLAC: lossless, about half the size in a quiet room.
    Flac,
}

/// The content of a clip file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content {
    pub(super) samples: Vec<i16>,
    /// Empty if the file has none.
    pub(super) comment: String,
}

impl ClipFormat {
    pub(super) const ALL: [Self; 2] = [Self::Wav, Self::Flac];

    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Wav => ".wav",
            Self::Flac => ".flac",
        }
    }

    /// The format of a file by its name. WAV if the suffix is unknown.
    pub(super) fn of(file: &str) -> Self {
        Self::ALL.into_iter().find(|format| file.ends_with(format.suffix())).unwrap_or(Self::Wav)
    }

    /// Whether a file is a clip, by its name.
    pub(super) fn is_clip(file: &str) -> bool {
        Self::ALL.iter().any(|format| file.ends_with(format.suffix()))
    }

    pub(super) fn encode(self, samples: &[i16], comment: &str) -> Vec<u8> {
        match self {
            Self::Wav => {
                let mut file = wav_of(samples);
                if !comment.is_empty() {
                    append_info(&mut file, comment);
                }
                file
            }
            Self::Flac => {
                let mut stream = Vec::new();
                sound::flac::encode(samples, &mut stream);
                if !comment.is_empty() {
                    insert_comment(&mut stream, comment);
                }
                stream
            }
        }
    }

    /// Reads a file of at most `most` samples. `None` if it is damaged, longer, or not canonical audio.
    pub(super) fn decode(self, bytes: &[u8], most: usize) -> Option<Content> {
        let (samples, comment) = match self {
            Self::Wav => (wav_samples(bytes, most)?, wav_comment(bytes)),
            Self::Flac => (flac::decode(bytes, most)?, flac::comment(bytes, FLAC_COMMENT)),
        };
        (samples.len() <= most).then(|| Content { samples, comment: comment.unwrap_or_default() })
    }
}

/// A WAV file of 16 kHz, one channel and signed 16 bits.
pub(super) fn wav_of(samples: &[i16]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::with_capacity(44 + samples.len() * 2));
    let mut writer = hound::WavWriter::new(&mut file, SPEC).expect("WAV supports this format");
    let mut block = writer.get_i16_writer(samples.len() as u32);
    for &sample in samples {
        block.write_sample(sample);
    }
    block.flush().expect("writing to memory does not fail");
    writer.finalize().expect("writing to memory does not fail");
    file.into_inner()
}

const SPEC: hound::WavSpec = hound::WavSpec {
    channels: 1,
    sample_rate: SAMPLE_RATE_HZ,
    bits_per_sample: 16,
    sample_format: hound::SampleFormat::Int,
};

fn wav_samples(bytes: &[u8], most: usize) -> Option<Vec<i16>> {
    let reader = hound::WavReader::new(bytes).ok()?;
    if reader.spec() != SPEC || reader.len() as usize > most {
        return None;
    }
    reader.into_samples().collect::<Result<_, _>>().ok()
}

/// Appends a `LIST` chunk of type `INFO` with a comment. The audio and the 44 bytes before it stay where they are.
fn append_info(file: &mut Vec<u8>, comment: &str) {
    // A text ends with a zero, and a chunk has an even length.
    let padded = (comment.len() + 2) & !1;
    file.extend_from_slice(b"LIST");
    file.extend_from_slice(&(4 + 8 + padded as u32).to_le_bytes());
    file.extend_from_slice(b"INFOICMT");
    file.extend_from_slice(&(comment.len() as u32 + 1).to_le_bytes());
    file.extend_from_slice(comment.as_bytes());
    file.resize(file.len() + padded - comment.len(), 0);
    let riff_bytes = file.len() as u32 - 8;
    file[4..8].copy_from_slice(&riff_bytes.to_le_bytes());
}

fn wav_comment(bytes: &[u8]) -> Option<String> {
    let list = chunks(bytes.get(12..)?).find(|(id, data)| id == b"LIST" && data.starts_with(b"INFO"))?;
    let (_, text) = chunks(&list.1[4..]).find(|(id, _)| id == b"ICMT")?;
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    String::from_utf8(text[..end].to_vec()).ok()
}

/// The chunks of a RIFF file with their ids, up to the first one that is cut off.
fn chunks(mut rest: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let id = *rest.first_chunk::<4>()?;
        let length = u32::from_le_bytes(*rest.get(4..)?.first_chunk::<4>()?) as usize;
        let data = rest.get(8..)?.get(..length)?;
        rest = rest.get(8 + length + length % 2..).unwrap_or_default();
        Some((id, data))
    })
}

/// Inserts a block of comments after STREAMINFO, which [`sound::flac`] writes as the only block.
fn insert_comment(stream: &mut Vec<u8>, comment: &str) {
    let text = |text: &str| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let block = [text(VENDOR), 1_u32.to_le_bytes().to_vec(), text(&format!("{FLAC_COMMENT}={comment}"))].concat();
    let mut header = (block.len() as u32).to_be_bytes();
    header[0] = LAST_BLOCK | VORBIS_COMMENT;
    stream[4] &= !LAST_BLOCK;
    stream.splice(AFTER_STREAM_INFO..AFTER_STREAM_INFO, header.into_iter().chain(block));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_come_back_and_the_audio_stays() {
        for samples in [vec![], vec![5; 1], (0..9_001).map(|n| (n % 777) as i16).collect()] {
            for comment in ["", "x", "ab", "{\"name\":\"Mörli\"}"] {
                for format in ClipFormat::ALL {
                    let bytes = format.encode(&samples, comment);
                    let read = format.decode(&bytes, samples.len());
                    assert_eq!(read, Some(Content { samples: samples.clone(), comment: comment.into() }), "{format:?}");
                    if !samples.is_empty() {
                        assert_eq!(format.decode(&bytes, samples.len() - 1), None, "longer than expected");
                        // Cut off within the audio, wherever that lies.
                        let audio_end = ClipFormat::Wav.encode(&samples, "").len().min(bytes.len()) - 1;
                        let cut_at = if format == ClipFormat::Wav { audio_end } else { bytes.len() - 1 };
                        assert_eq!(format.decode(&bytes[..cut_at], samples.len()), None, "cut off");
                    }
                }
            }
        }
        let plain = ClipFormat::Wav.encode(&[1, 2, 3], "");
        let commented = ClipFormat::Wav.encode(&[1, 2, 3], "hello");
        assert_eq!((plain.len(), &plain[8..]), (50, &commented[8..50]));
        assert_eq!(commented.len() as u32 - 8, u32::from_le_bytes(commented[4..8].try_into().unwrap()));
    }

    #[test]
    fn damaged_files_are_refused() {
        let good = ClipFormat::Wav.encode(&[9; 100], "{}");
        for (place, byte) in [(0, b'X'), (8, b'X'), (22, 2), (24, 1), (34, 8), (40, 255)] {
            let mut bad = good.clone();
            bad[place] = byte;
            assert_eq!(ClipFormat::Wav.decode(&bad, 100), None, "byte {place}");
        }
        assert_eq!(ClipFormat::Wav.decode(&[], 100), None);
        assert_eq!(ClipFormat::Flac.decode(&good, 100), None);
    }
}
