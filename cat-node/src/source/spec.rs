//! The source that the user asked for: `synthetic`, `microphone[:ID]`, `wav:PATH`, or the URL of a stream.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use daemon::config::mask_url;
use recordings::Channel;

use super::stream_url::{StreamUrl, mask};
use super::wav;

/// What is said of a stream where the program has no sources on the network.
#[cfg(not(feature = "network-sources"))]
pub(super) const NO_NETWORK: &str =
    "this cat-node was built without sources on the network (cargo feature \"network-sources\"); use another source";

/// Seed of the synthetic source if the user gives none.
pub const DEFAULT_SEED: u64 = 1;

/// A source of audio that is not open yet.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum SourceSpec {
    /// Synthesized from a seed.
    Synthetic {
        /// The same seed gives the same samples.
        seed: u64,
        /// Whether there is a cat in it, or only room noise (`synthetic:silence`).
        vocalisations: bool,
    },
    /// A sound card.
    Microphone {
        /// Its stable id, as `cat-node devices` lists it. `None`: the system's default.
        id: Option<String>,
    },
    /// A camera, or a stream over HTTP.
    Stream {
        /// `rtsp://`, `rtsp+udp://`, `http://` or `https://`.
        url: StreamUrl,
    },
    /// A recording.
    Wav {
        /// A file, or a folder whose `.wav` files are played in the order of their names.
        path: PathBuf,
        /// Stop at the end instead of starting over.
        once: bool,
    },
}

impl SourceSpec {
    /// The kind of source, as on the wire: "synthetic", "wav", "microphone", "rtsp" or "http".
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Synthetic { .. } => "synthetic",
            Self::Microphone { .. } => "microphone",
            Self::Stream { url } => url.kind(),
            Self::Wav { .. } => "wav",
        }
    }

    /// Checks at the start what cannot become right later: that there is a recording to play, and that a URL names a
    /// format that exists.
    ///
    /// # Errors
    /// Names the file or the folder, and the reason.
    pub fn check(&self, channel: Channel) -> Result<(), String> {
        match self {
            Self::Wav { path, .. } => wav::check(path, channel).map_err(|error| error.to_string()),
            #[cfg(feature = "network-sources")]
            Self::Stream { url } => super::network::check(url),
            #[cfg(not(feature = "network-sources"))]
            Self::Stream { .. } => Err(NO_NETWORK.into()),
            _ => Ok(()),
        }
    }

    /// The same source with another seed. Only the synthetic source has one.
    pub fn with_seed(mut self, new_seed: u64) -> Self {
        if let Self::Synthetic { seed, .. } = &mut self {
            *seed = new_seed;
        }
        self
    }

    /// The same source, played once or for ever. Only a recording ends.
    pub fn with_once(mut self, new_once: bool) -> Self {
        if let Self::Wav { once, .. } = &mut self {
            *once = new_once;
        }
        self
    }
}

impl FromStr for SourceSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if StreamUrl::is_meant(text) {
            return Ok(Self::Stream { url: text.parse()? });
        }
        let (kind, rest) = match text.split_once(':') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (text, None),
        };
        match (kind, rest) {
            ("synthetic", None) => Ok(Self::Synthetic { seed: DEFAULT_SEED, vocalisations: true }),
            ("synthetic", Some("silence")) => Ok(Self::Synthetic { seed: DEFAULT_SEED, vocalisations: false }),
            ("microphone", None) => Ok(Self::Microphone { id: None }),
            ("microphone", Some(id)) if !id.is_empty() => Ok(Self::Microphone { id: Some(id.to_owned()) }),
            ("wav", Some(path)) if !path.is_empty() => Ok(Self::Wav { path: path.into(), once: false }),
            _ => Err(format!(
                "\"{}\" is not a source; give synthetic, synthetic:silence, microphone, microphone:ID, wav:PATH, or a URL \
                 that begins with rtsp:// or http://",
                mask(&mask_url(text))
            )),
        }
    }
}

impl TryFrom<String> for SourceSpec {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Synthetic { vocalisations: true, .. } => out.write_str("synthetic"),
            Self::Synthetic { vocalisations: false, .. } => out.write_str("synthetic:silence"),
            Self::Microphone { id: None } => out.write_str("microphone"),
            Self::Microphone { id: Some(id) } => write!(out, "microphone:{id}"),
            Self::Stream { url } => url.fmt(out),
            Self::Wav { path, .. } => write!(out, "wav:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spec_reads_back_as_it_is_written() {
        for text in [
            "synthetic",
            "synthetic:silence",
            "microphone",
            "microphone:hw:CARD=Mic,DEV=0",
            "microphone:pulse:room.monitor",
            "wav:/a b/c:d.wav",
            "rtsp://camera/stream1",
            "https://mic/audio?rate=16000&format=s16",
        ] {
            assert_eq!(text.parse::<SourceSpec>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_is_known() {
        let error = "RTSP://cam/user=anna&password=pass".parse::<SourceSpec>().unwrap_err();
        assert!(error.contains("password=***") && !error.contains("=pass"), "{error}");
        for text in ["", "synthetic:", "synthetic:5", "wav", "wav:", "microphone:", "mic", "Synthetic"] {
            let error = text.parse::<SourceSpec>().unwrap_err();
            assert!(error.contains(&format!("\"{text}\"")) && error.contains("wav:PATH"), "{error}");
        }
    }

    #[test]
    fn seed_is_for_the_synthetic_source_and_once_for_recordings() {
        let synthetic: SourceSpec = "synthetic".parse().unwrap();
        assert_eq!(synthetic.with_seed(7).with_once(true), SourceSpec::Synthetic { seed: 7, vocalisations: true });
        let wav: SourceSpec = "wav:x".parse().unwrap();
        assert_eq!(wav.with_seed(7).with_once(true), SourceSpec::Wav { path: "x".into(), once: true });
    }
}
