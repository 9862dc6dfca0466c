//! Raw samples over HTTP, whose format the URL names: `?rate=16000&format=s16&channels=1`.

use sound::framer::SOURCE_RATES_HZ;

use super::login::Login;
use crate::source::stream_url::{FORMAT_KEYS, StreamUrl};

/// Formats of samples: the name, the tag and the bits of a WAV header.
const FORMATS: [(&str, u16, u16); 7] =
    [("u8", 1, 8), ("s16", 1, 16), ("s24", 1, 24), ("s32", 1, 32), ("f32", 3, 32), ("alaw", 6, 8), ("mulaw", 7, 8)];

/// The format that a URL names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RawFormat {
    rate_hz: u32,
    channels: u16,
    tag: u16,
    bits: u16,
}

impl RawFormat {
    /// The format that a URL names. `None`: the stream tells its format itself.
    ///
    /// # Errors
    /// If it names none that exists, or only a part of one.
    pub(super) fn of(url: &StreamUrl) -> Result<Option<Self>, String> {
        let login = Login::of(url)?;
        let value =
            |key: &str| login.url.query_pairs().find(|(name, _)| name == key).map(|(_, value)| value.into_owned());
        let [rate, format, channels] = FORMAT_KEYS.map(value);
        let (Some(rate), Some(format)) = (rate, format) else {
            return Ok(None);
        };
        let names = || FORMATS.map(|(name, ..)| name).join(", ");
        let found = FORMATS.iter().find(|(name, ..)| *name == format.trim_end_matches("le"));
        let &(_, tag, bits) = found.ok_or_else(|| format!("format={format} is not one of {}", names()))?;
        let rate_hz = rate.parse().ok().filter(|rate| SOURCE_RATES_HZ.contains(rate)).ok_or_else(|| {
            format!("rate={rate} is not between {} and {}", SOURCE_RATES_HZ.start(), SOURCE_RATES_HZ.end())
        })?;
        let most = recordings::MAX_CHANNELS;
        let channels = channels.map_or(Ok(1), |text| {
            text.parse()
                .ok()
                .filter(|channels| (1..=most).contains(channels))
                .ok_or_else(|| format!("channels={text} is not between 1 and {most}"))
        })?;
        Ok(Some(Self { rate_hz, channels, tag, bits }))
    }

    /// The header of an endless WAV file with such samples.
    pub(super) fn wav_header(self) -> Vec<u8> {
        let Self { rate_hz, channels, tag, bits } = self;
        let block = channels * (bits / 8);
        let mut header = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0".to_vec();
        header.extend(tag.to_le_bytes());
        header.extend(channels.to_le_bytes());
        header.extend(rate_hz.to_le_bytes());
        header.extend((rate_hz * u32::from(block)).to_le_bytes());
        header.extend(block.to_le_bytes());
        header.extend(bits.to_le_bytes());
        header.extend(b"data\xff\xff\xff\xff");
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<Option<RawFormat>, String> {
        RawFormat::of(&format!("http://mic/audio{query}").parse().unwrap())
    }

    #[test]
    fn url_names_the_format_of_raw_samples() {
        let raw = |rate_hz, channels, tag, bits| Ok(Some(RawFormat { rate_hz, channels, tag, bits }));
        assert_eq!(of("?rate=16000&format=s16"), raw(16_000, 1, 1, 16));
        assert_eq!(of("?format=s32le&rate=48000&channels=2"), raw(48_000, 2, 1, 32));
        assert_eq!(of(""), Ok(None));
        assert_eq!(of("?rate=high"), Ok(None));
        for nonsense in ["?rate=5&format=s16", "?rate=16000&format=s17", "?rate=16000&format=s16&channels=0"] {
            assert!(of(nonsense).is_err(), "{nonsense}");
        }
    }
}
