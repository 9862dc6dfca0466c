//! Chooses the formats that are best for canonical audio, out of those that a device offers.

use cpal::{BufferSize, SampleFormat, StreamConfig, SupportedBufferSize, SupportedStreamConfigRange};

/// Rates in order of preference for a card that is opened directly. The rate of canonical audio comes first, because it
/// needs no resampling; then the rates that hold all frequencies of canonical audio.
const CARD_RATES_HZ: [u32; 5] = [16_000, 48_000, 44_100, 32_000, 8_000];

/// Rates in order of preference for a device that may convert (`default`, `plughw`, sound servers). The rate of most
/// hardware comes first, because ALSA's own converter has no good low-pass filter, and the node's resampler has.
const CONVERTED_RATES_HZ: [u32; 5] = [48_000, 16_000, 44_100, 32_000, 8_000];

/// Formats in order of preference. The narrowest one that holds 16 bits costs the least bus and memory traffic.
const FORMATS: [SampleFormat; 10] = [
    SampleFormat::I16,
    SampleFormat::F32,
    SampleFormat::I32,
    SampleFormat::I24,
    SampleFormat::U16,
    SampleFormat::U32,
    SampleFormat::U24,
    SampleFormat::F64,
    SampleFormat::U8,
    SampleFormat::I8,
];

/// Callbacks per second, if the device allows it: each delivers a frame.
const PERIODS_A_SECOND: u32 = 50;

/// How many formats are tried, each with two periods at most. A device lists rates, channels and formats separately,
/// and not every combination works.
const MOST_TRIES: usize = 12;

/// A format to open a stream with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) config: StreamConfig,
    pub(super) format: SampleFormat,
}

/// The formats to try, best first. Empty: the device offers none that is supported.
///
/// `is_card`: the device is a card, opened without a converter.
pub(super) fn choices(offered: &[SupportedStreamConfigRange], is_card: bool) -> Vec<Choice> {
    let rates = if is_card { CARD_RATES_HZ } else { CONVERTED_RATES_HZ };
    let mut ranked: Vec<(usize, u16, usize, Choice)> = Vec::new();
    for range in offered {
        let Some(format_rank) = FORMATS.iter().position(|&format| format == range.sample_format()) else { continue };
        let (lowest, highest) = (range.min_sample_rate(), range.max_sample_rate());
        let mut push = |rate_rank, sample_rate| {
            let buffer_size = buffer_size(sample_rate, range.buffer_size());
            let config = StreamConfig { channels: range.channels(), sample_rate, buffer_size };
            ranked.push((rate_rank, range.channels(), format_rank, Choice { config, format: range.sample_format() }));
        };
        for (rank, &rate) in rates.iter().enumerate().filter(|&(_, rate)| (lowest..=highest).contains(rate)) {
            push(rank, rate);
        }
        if !rates.iter().any(|rate| (lowest..=highest).contains(rate)) {
            // An unusual rate, such as 96 kHz, is better than nothing.
            push(rates.len(), lowest);
        }
    }
    ranked.sort_by_key(|&(rate, channels, format, choice)| (rate, channels, format, choice.config.sample_rate));
    ranked.dedup_by_key(|(.., choice)| *choice);
    ranked.truncate(MOST_TRIES);
    ranked.into_iter().flat_map(|(.., choice)| [choice, choice.with_its_own_buffer()]).collect()
}

impl Choice {
    /// The same format, with the period of the device. A microphone that programs share by ALSA (`dsnoop`, the default
    /// where there is no sound server) has one period, and names it only when it is opened.
    fn with_its_own_buffer(self) -> Self {
        Self { config: StreamConfig { buffer_size: BufferSize::Default, ..self.config }, ..self }
    }
}

fn buffer_size(sample_rate: u32, allowed: &SupportedBufferSize) -> BufferSize {
    let wanted = sample_rate / PERIODS_A_SECOND;
    match *allowed {
        SupportedBufferSize::Range { min, max } if min <= max => BufferSize::Fixed(wanted.clamp(min, max)),
        _ => BufferSize::Fixed(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(channels: u16, rates: (u32, u32), format: SampleFormat) -> SupportedStreamConfigRange {
        let buffer = SupportedBufferSize::Range { min: 16, max: 65_536 };
        SupportedStreamConfigRange::new(channels, rates.0, rates.1, buffer, format)
    }

    /// Rate, channels and format of the best choice.
    fn best(offered: &[SupportedStreamConfigRange], is_card: bool) -> (u32, u16, SampleFormat) {
        let choice = choices(offered, is_card)[0];
        (choice.config.sample_rate, choice.config.channels, choice.format)
    }

    #[test]
    fn card_that_can_gives_canonical_audio() {
        let offered = [
            range(2, (8_000, 96_000), SampleFormat::F32),
            range(1, (8_000, 96_000), SampleFormat::I32),
            range(1, (8_000, 96_000), SampleFormat::I16),
        ];
        assert_eq!(best(&offered, true), (16_000, 1, SampleFormat::I16));
    }

    #[test]
    fn converter_is_asked_for_the_rate_of_the_hardware() {
        let offered = [range(1, (1, 384_000), SampleFormat::I16)];
        assert_eq!(best(&offered, false), (48_000, 1, SampleFormat::I16));
    }

    #[test]
    fn usual_usb_microphone_gives_48_khz_mono() {
        let offered = [range(1, (44_100, 44_100), SampleFormat::I16), range(1, (48_000, 48_000), SampleFormat::I16)];
        assert_eq!(best(&offered, true), (48_000, 1, SampleFormat::I16));
    }

    #[test]
    fn i2s_microphone_with_nothing_but_32_bits_stereo_is_used() {
        let offered = [range(2, (48_000, 48_000), SampleFormat::I32)];
        assert_eq!(best(&offered, true), (48_000, 2, SampleFormat::I32));
    }

    #[test]
    fn unusual_rate_is_better_than_nothing() {
        let offered = [range(2, (96_000, 192_000), SampleFormat::I32)];
        assert_eq!(best(&offered, true), (96_000, 2, SampleFormat::I32));
    }

    #[test]
    fn unknown_formats_are_skipped() {
        assert_eq!(choices(&[range(2, (352_800, 352_800), SampleFormat::DsdU8)], true), vec![]);
    }

    #[test]
    fn a_callback_delivers_a_frame_if_the_device_allows_it() {
        let small = SupportedBufferSize::Range { min: 16, max: 256 };
        assert_eq!(buffer_size(48_000, &small), BufferSize::Fixed(256));
        assert_eq!(buffer_size(48_000, &SupportedBufferSize::Unknown), BufferSize::Fixed(960));
        assert_eq!(buffer_size(16_000, &SupportedBufferSize::Range { min: 16, max: 65_536 }), BufferSize::Fixed(320));
    }

    #[test]
    fn device_with_another_period_is_opened_with_its_own() {
        let offered = [range(1, (48_000, 48_000), SampleFormat::I16)];
        let periods: Vec<_> = choices(&offered, false).iter().map(|choice| choice.config.buffer_size).collect();
        assert_eq!(periods, [BufferSize::Fixed(960), BufferSize::Default]);
    }

    #[test]
    fn tries_are_bounded_and_differ() {
        let offered: Vec<_> = (1..=64).map(|channels| range(channels, (8_000, 48_000), SampleFormat::I16)).collect();
        let choices = choices(&offered, true);
        assert_eq!(choices.len(), 2 * MOST_TRIES);
        assert!(choices.iter().enumerate().all(|(at, choice)| !choices[..at].contains(choice)));
    }
}
