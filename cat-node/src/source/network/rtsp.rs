//! A camera: RTSP, by the crate `retina`.

use std::num::NonZeroU16;
use std::time::Duration;

use daemon::cause::without_number;
use futures_util::StreamExt;
use recordings::{AacDecoder, a_law, mu_law};
use retina::client::{
    Credentials, Demuxed, PlayOptions, Session, SessionOptions, SetupOptions, Transport, UdpTransportOptions,
};
use retina::codec::{AudioFrame, CodecItem, ParametersRef};
use tokio::time::timeout;

use super::http::wrong_password;
use super::login::Login;
use super::{Feed, STEP_DEADLINE};
use crate::source::interface::{SourceError, SourceFormat};
use crate::source::stream_url::{Scheme, StreamUrl};

/// The status of a server that will not send the sound over the same connection.
const UNSUPPORTED_TRANSPORT: u16 = 461;

/// Without a packet that was lost, a step of the time stamps below this is an inaccuracy of the camera.
const SLOPPY: Duration = Duration::from_millis(100);

/// A step of the time stamps above this is a clock that was set, and says nothing about lost sound.
const LONGEST_LOSS_S: i64 = 30;

/// How long a closed source may take to say goodbye to the camera.
const GOODBYE: Duration = Duration::from_millis(500);

/// Connects, and hands the sound over until the stream ends. Returns why it ended.
pub(super) fn run(url: &StreamUrl, login: &Login, feed: &Feed) -> SourceError {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return SourceError::Reopen(format!("{}: {}", url.place(), without_number(error))),
    };
    let error = runtime.block_on(async {
        tokio::select! {
            error = stream(url, login, feed) => error,
            () = feed.stop.token.cancelled() => SourceError::Reopen("closed".into()),
        }
    });
    runtime.shutdown_timeout(GOODBYE);
    error
}

async fn stream(url: &StreamUrl, login: &Login, feed: &Feed) -> SourceError {
    let place = url.place();
    let (mut stream, mut decoder) = match open(&place, login, url.scheme() == Scheme::RtspUdp).await {
        Ok(opened) => opened,
        Err(error) => return error,
    };
    let mut opened = None;
    let mut stamps = Stamps::default();
    loop {
        let item = match timeout(STEP_DEADLINE, stream.next()).await {
            Ok(Some(Ok(item))) => item,
            Ok(Some(Err(error))) => return SourceError::Reopen(format!("{place}: {}", first_line(&error))),
            Ok(None) => return SourceError::Reopen(format!("{place} has ended the stream")),
            Err(_) => return SourceError::Reopen(format!("{place} sends nothing any more")),
        };
        let CodecItem::AudioFrame(frame) = item else { continue };
        let mut samples = Vec::new();
        let Some(format) = decoder.decode(frame.data(), &mut samples) else {
            stamps.undecoded();
            continue;
        };
        if *opened.get_or_insert(format) != format {
            return SourceError::Reopen(format!("{place} has changed the format of its sound"));
        }
        let packet = Packet::of(&frame);
        let lost = stamps.lost(&packet, format.sample_rate_hz);
        if stamps.is_first() && !feed.opened(format) {
            break;
        }
        stamps.passed(&packet);
        if !feed.piece(samples, lost) {
            break;
        }
    }
    SourceError::Reopen("closed".into())
}

/// Connects and starts the stream, over UDP or TCP first and then over the other. Both are tried on one connection: a
/// camera that is still stopping what it refused would answer a second one with an error.
async fn open(place: &str, login: &Login, udp_first: bool) -> Result<(Demuxed, Decoder), SourceError> {
    let creds = login.user.clone().map(|(username, password)| Credentials { username, password });
    let options = SessionOptions::default().creds(creds).user_agent(format!("cat-node/{}", env!("CARGO_PKG_VERSION")));
    let late = |_| SourceError::Reopen(format!("{place} does not answer"));
    let failed = |error: retina::Error| match error.status_code() {
        Some(401 | 403) => SourceError::Refused(wrong_password(place)),
        Some(status @ 300..=399) => SourceError::Refused(format!(
            "{place} sends us to another address (status {status}); give that address in source"
        )),
        Some(404) => SourceError::Reopen(format!("{place} has no such stream; check the path in source")),
        _ => SourceError::Reopen(format!("{place}: {}", first_line(&error))),
    };
    let described = timeout(STEP_DEADLINE, Session::describe(login.url.clone(), options)).await.map_err(late)?;
    let mut session = described.map_err(failed)?;
    let audio: Vec<usize> =
        (0..session.streams().len()).filter(|&at| session.streams()[at].media() == "audio").collect();
    let supported = |&&at: &&usize| Decoder::knows(session.streams()[at].encoding_name());
    let Some(&at) = audio.iter().find(supported) else {
        let codings: Vec<&str> = audio.iter().map(|&at| session.streams()[at].encoding_name()).collect();
        let why = if codings.is_empty() {
            format!("{place} sends pictures and no sound; switch on the microphone in the settings of the camera")
        } else {
            let codings = codings.join(", ").to_uppercase();
            format!("{place} sends sound as {codings}, which is not supported; set the camera to AAC or G.711")
        };
        return Err(SourceError::Refused(why));
    };
    let mut transports = [Transport::default(), Transport::Udp(UdpTransportOptions::default())];
    if udp_first {
        transports.reverse();
    }
    let mut answer = None;
    for transport in transports {
        let setup = session.setup(at, SetupOptions::default().transport(transport));
        let done = timeout(STEP_DEADLINE, setup).await.map_err(late)?;
        if !matches!(&done, Err(error) if error.status_code() == Some(UNSUPPORTED_TRANSPORT)) {
            answer = Some(done);
            break;
        }
    }
    let neither = || SourceError::Refused(format!("{place} sends neither over TCP nor over UDP"));
    answer.ok_or_else(neither)?.map_err(failed)?;
    let playing = timeout(STEP_DEADLINE, session.play(PlayOptions::default())).await.map_err(late)?;
    let stream = playing.and_then(|session| session.demuxed()).map_err(failed)?;
    let decoder = Decoder::of(&stream.streams()[at])
        .map_err(|why| SourceError::Refused(format!("{place} sends sound that cannot be read: {why}")))?;
    Ok((stream, decoder))
}

/// What an error says, without the addresses of its packets.
fn first_line(error: &retina::Error) -> String {
    without_number(error.to_string().lines().next().unwrap_or_default())
}

/// Turns packets into samples.
enum Decoder {
    ALaw(SourceFormat),
    MuLaw(SourceFormat),
    Linear16(SourceFormat),
    Aac(Box<AacDecoder>),
}

impl Decoder {
    fn knows(encoding: &str) -> bool {
        ["pcma", "pcmu", "l16", "mpeg4-generic"].contains(&encoding)
    }

    fn of(stream: &retina::client::Stream) -> Result<Self, String> {
        let channels = stream.channels().map_or(1, NonZeroU16::get);
        let format = SourceFormat { sample_rate_hz: stream.clock_rate_hz(), channels };
        Ok(match stream.encoding_name() {
            "pcma" => Self::ALaw(format),
            "pcmu" => Self::MuLaw(format),
            "l16" => Self::Linear16(format),
            _ => {
                let Some(ParametersRef::Audio(parameters)) = stream.parameters() else {
                    return Err("it does not say how its AAC is coded".into());
                };
                Self::Aac(Box::new(AacDecoder::open(parameters.extra_data()).map_err(|error| error.to_string())?))
            }
        })
    }

    /// Appends the samples of a packet. `None`: it has none that can be decoded.
    fn decode(&mut self, packet: &[u8], out: &mut Vec<f32>) -> Option<SourceFormat> {
        let format = match self {
            Self::ALaw(format) => {
                out.extend(packet.iter().map(|byte| a_law(*byte)));
                *format
            }
            Self::MuLaw(format) => {
                out.extend(packet.iter().map(|byte| mu_law(*byte)));
                *format
            }
            Self::Linear16(format) => {
                out.extend(packet.as_chunks().0.iter().map(|two| f32::from(i16::from_be_bytes(*two)) / 32_768.0));
                *format
            }
            Self::Aac(decoder) => {
                let format = decoder.decode(packet, out)?;
                SourceFormat { sample_rate_hz: format.sample_rate_hz, channels: format.channels }
            }
        };
        let channels = usize::from(format.channels);
        out.truncate(out.len() / channels * channels);
        (!out.is_empty()).then_some(format)
    }
}

/// When a packet was recorded, by the camera.
struct Packet {
    stamp: i64,
    clock_hz: i64,
    /// In ticks of this clock.
    length: i64,
    /// Whether packets were lost before it.
    after_loss: bool,
}

impl Packet {
    fn of(frame: &AudioFrame) -> Self {
        Self {
            stamp: frame.timestamp().timestamp(),
            clock_hz: i64::from(frame.timestamp().clock_rate().get()),
            length: i64::from(frame.frame_length().get()),
            after_loss: frame.loss() > 0,
        }
    }
}

/// The time stamps of the camera, which tell how much sound a lost packet had.
#[derive(Default)]
struct Stamps {
    /// The stamp that the next packet has if none is lost.
    next: Option<i64>,
    /// A packet came that could not be decoded: its sound is lost.
    undecoded: bool,
}

impl Stamps {
    fn is_first(&self) -> bool {
        self.next.is_none()
    }

    fn undecoded(&mut self) {
        self.undecoded = true;
    }

    /// Samples per channel that were lost before a packet. `Some(0)`: unknown.
    fn lost(&self, packet: &Packet, rate_hz: u32) -> Option<u64> {
        let lost = packet.after_loss || self.undecoded;
        missing(packet.stamp - self.next?, packet.clock_hz, lost, rate_hz)
    }

    fn passed(&mut self, packet: &Packet) {
        *self = Self { next: Some(packet.stamp + packet.length), undecoded: false };
    }
}

/// Samples per channel in a step of the time stamps. `None`: nothing is missing. `Some(0)`: unknown.
fn missing(step: i64, clock_hz: i64, packets_lost: bool, rate_hz: u32) -> Option<u64> {
    let sloppy = SLOPPY.as_millis() as i64 * clock_hz / 1000;
    match step {
        _ if step.abs() > LONGEST_LOSS_S * clock_hz => Some(0),
        1.. if packets_lost || step > sloppy => Some((step * i64::from(rate_hz) / clock_hz) as u64),
        _ if packets_lost => Some(0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stamps_tell_how_much_was_lost() {
        assert_eq!(missing(0, 8000, false, 8000), None);
        // A frame of AAC, of a camera whose stamps are half of the rate.
        assert_eq!(missing(1024, 24_000, true, 48_000), Some(2048));
        // Inaccurate, but nothing was lost.
        assert_eq!(missing(300, 8000, false, 8000), None);
        assert_eq!(missing(1600, 8000, false, 8000), Some(1600));
        // A clock that was set.
        assert_eq!(missing(-80_000_000, 8000, false, 8000), Some(0));
        assert_eq!(missing(-160, 8000, false, 8000), None);
    }

    #[test]
    fn packet_that_cannot_be_decoded_is_lost_sound() {
        let packet = |stamp| Packet { stamp, clock_hz: 8000, length: 160, after_loss: false };
        let mut stamps = Stamps::default();
        // Before the first sound, nothing is missing.
        stamps.undecoded();
        assert_eq!(stamps.lost(&packet(160), 8000), None);
        stamps.passed(&packet(160));
        assert_eq!(stamps.lost(&packet(320), 8000), None);
        stamps.passed(&packet(320));
        stamps.undecoded();
        assert_eq!(stamps.lost(&packet(640), 8000), Some(160));
        stamps.passed(&packet(640));
        assert_eq!(stamps.lost(&packet(800), 8000), None);
    }
}
