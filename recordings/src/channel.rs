//! Which channel of a recording or a microphone is heard.

use std::fmt;
use std::str::FromStr;

/// Which channel is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Text", into = "String")]
pub enum Channel {
    /// The mean of all channels.
    #[default]
    Mix,
    /// One channel, counted from 1. 1 is also called left, and 2 right.
    One(u16),
}

impl Channel {
    /// The words for a channel, for help texts.
    pub const WORDS: &str = "mix, left, right or the number of a channel from 1";

    /// Removes the samples of the other channels. The samples are interleaved; a channel that does not exist leaves
    /// nothing.
    pub fn pick(self, samples: &mut Vec<f32>, from: usize, channels: usize) {
        let Self::One(number) = self else { return };
        let offset = usize::from(number).saturating_sub(1);
        let count = if offset < channels { (samples.len() - from) / channels } else { 0 };
        for frame in 0..count {
            samples[from + frame] = samples[from + frame * channels + offset];
        }
        samples.truncate(from + count);
    }

    /// How many channels are left after [`Channel::pick`]. `None`: the channel does not exist.
    pub fn left_of(self, channels: u16) -> Option<u16> {
        match self {
            Self::Mix => Some(channels),
            Self::One(number) => (1..=channels).contains(&number).then_some(1),
        }
    }
}

impl FromStr for Channel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "mix" => Ok(Self::Mix),
            "left" => Ok(Self::One(1)),
            "right" => Ok(Self::One(2)),
            number => match number.parse() {
                Ok(number) if (1..=crate::MAX_CHANNELS).contains(&number) => Ok(Self::One(number)),
                _ => Err(format!("\"{text}\" is not a channel; give {}", Self::WORDS)),
            },
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mix => out.write_str("mix"),
            Self::One(1) => out.write_str("left"),
            Self::One(2) => out.write_str("right"),
            Self::One(number) => write!(out, "{number}"),
        }
    }
}

impl From<Channel> for String {
    fn from(channel: Channel) -> Self {
        channel.to_string()
    }
}

/// A channel in a config file: a word, or a number without quotes.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Text {
    Word(String),
    Number(u16),
}

impl TryFrom<Text> for Channel {
    type Error = String;

    fn try_from(text: Text) -> Result<Self, String> {
        match text {
            Text::Word(word) => word.parse(),
            Text::Number(number) => number.to_string().parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_channel_reads_back_as_it_is_written() {
        for text in ["mix", "left", "right", "3", "64"] {
            assert_eq!(text.parse::<Channel>().unwrap().to_string(), text);
        }
        assert_eq!("1".parse(), Ok(Channel::One(1)));
        assert_eq!(
            ["LEFT", "Right", "MIX"].map(|text| text.parse()),
            [Channel::One(1), Channel::One(2), Channel::Mix].map(Ok)
        );
        for text in ["", "0", "65", "both", "-1", "each"] {
            assert!(text.parse::<Channel>().unwrap_err().contains("is not a channel"), "{text}");
        }
    }

    #[test]
    fn one_channel_is_picked_behind_what_is_there() {
        let mut samples = vec![9.0, 1.0, 2.0, 3.0, 4.0];
        Channel::One(2).pick(&mut samples, 1, 2);
        assert_eq!(samples, [9.0, 2.0, 4.0]);
        let mut samples = vec![1.0, 2.0];
        Channel::Mix.pick(&mut samples, 0, 2);
        assert_eq!(samples, [1.0, 2.0]);
        Channel::One(3).pick(&mut samples, 0, 2);
        assert!(samples.is_empty());
        assert_eq!([Channel::Mix, Channel::One(2), Channel::One(3)].map(|c| c.left_of(2)), [Some(2), Some(1), None]);
    }
}
