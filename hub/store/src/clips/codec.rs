//! Encodes and decodes clips: WAV or FLAC on disk, WAV for clients.

use std::io::Cursor;

use sound::SAMPLE_RATE_HZ;

use crate::flac;

/// Format of a clip on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClipFormat {
    /// WAV: 32 kB a second.
    Wav,
    /// FLAC: lossless, about half the size in a quiet room.
    Flac,
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

    pub(super) fn encode(self, samples: &[i16]) -> Vec<u8> {
        match self {
            Self::Wav => wav_of(samples),
            Self::Flac => {
                let mut stream = Vec::new();
                sound::flac::encode(samples, &mut stream);
                stream
            }
        }
    }

    /// The samples of a file that must have `count` samples. `None` if the file is damaged.
    pub(super) fn decode(self, bytes: &[u8], count: usize) -> Option<Vec<i16>> {
        let samples = match self {
            Self::Wav => hound::WavReader::new(bytes).ok()?.into_samples().collect::<Result<_, _>>().ok(),
            Self::Flac => flac::decode(bytes, count),
        };
        samples.filter(|samples: &Vec<i16>| samples.len() == count)
    }
}

/// A WAV file of 16 kHz, one channel and signed 16 bits.
pub(super) fn wav_of(samples: &[i16]) -> Vec<u8> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = Cursor::new(Vec::with_capacity(44 + samples.len() * 2));
    let mut writer = hound::WavWriter::new(&mut file, spec).expect("WAV supports this format");
    let mut block = writer.get_i16_writer(samples.len() as u32);
    for &sample in samples {
        block.write_sample(sample);
    }
    block.flush().expect("writing to memory does not fail");
    writer.finalize().expect("writing to memory does not fail");
    file.into_inner()
}
