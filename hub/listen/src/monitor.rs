//! Live streams of a node's sound for a person. Each is a subscriber of the node, in addition to the hub's own.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use daemon::shutdown::CancellationToken;
use hub_base::error::{Code, Error, Who};
use hub_nodes::Node;
use proto::{Encoding, ListenRequest, ListenResponse};
use sound::SAMPLE_RATE_HZ;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tonic::Streaming;
use tracing::info;

use crate::sequencer::{Piece, Sequencer};

/// How long a node may take to begin the stream.
const LISTEN_DEADLINE: Duration = Duration::from_secs(3);

/// Length of audio per message, in milliseconds.
const MESSAGE_MS: u32 = 100;

/// Messages queued for a client: 10 s. A client that falls further behind is cut off, because its sound is no longer
/// live.
const AUDIO_QUEUE: usize = 100;

/// Sound from before the request, in 20 ms frames. Players fill a buffer before they begin, and this second comes at
/// once.
const HISTORY_FRAMES: u64 = 50;

/// A gap longer than this is played as this much silence, so that nobody has to wait an hour for the sound after it.
const MAX_SILENCE_SAMPLES: u64 = 10 * SAMPLE_RATE_HZ as u64;

/// The stream ends when the node sends nothing for this long.
const QUIET_AFTER: Duration = Duration::from_secs(30);

/// Opens a live stream of a node's sound: canonical audio as little-endian bytes, from the last second on. A gap
/// becomes silence. The stream ends when the node goes away, the client falls behind or hangs up, or the hub stops.
/// Must be called within a tokio runtime.
///
/// # Errors
/// About the node, as [`Error::from_status`].
pub async fn open(node: &Node, stop: CancellationToken) -> Result<mpsc::Receiver<Bytes>, Error> {
    let description = node.describe().await?;
    let tape = description.tape.unwrap_or_default();
    let from = tape.next_sequence.saturating_sub(HISTORY_FRAMES).max(tape.oldest_sequence);
    let sequencer = Sequencer::resume(description.boot_id, from);
    let (from, encoding) = (Some(sequencer.cursor()), Encoding::PcmS16le as i32);
    let request = ListenRequest { frame_ms: MESSAGE_MS, from, encoding };
    let Some(stream) = node.listen(request, LISTEN_DEADLINE).await? else {
        let message = "the node answers and has no audio: its program does not stream";
        return Err(Error::new(Code::Unavailable(Who::Node), message));
    };
    let (audio, receiver) = mpsc::channel(AUDIO_QUEUE);
    let url = node.url().to_owned();
    tokio::spawn(async move {
        if pump(stream, sequencer, &audio, &stop).await == Ended::TooSlow {
            info!(node = url, "live stream of sound ended: the client fell behind");
        }
    });
    Ok(receiver)
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    TooSlow,
    /// The node, the client or the hub has gone.
    Gone,
}

async fn pump(
    mut stream: Streaming<ListenResponse>,
    mut sequencer: Sequencer,
    audio: &mpsc::Sender<Bytes>,
    stop: &CancellationToken,
) -> Ended {
    loop {
        let received = tokio::select! {
            received = tokio::time::timeout(QUIET_AFTER, stream.message()) => received,
            () = audio.closed() => return Ended::Gone,
            () = stop.cancelled() => return Ended::Gone,
        };
        let Ok(Ok(Some(message))) = received else { return Ended::Gone };
        let mut bytes = BytesMut::new();
        if sequencer.take(message, |piece| append(&mut bytes, piece)).is_err() {
            return Ended::Gone;
        }
        if bytes.is_empty() {
            continue;
        }
        match audio.try_send(bytes.freeze()) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Ended::TooSlow,
            Err(TrySendError::Closed(_)) => return Ended::Gone,
        }
    }
}

fn append(bytes: &mut BytesMut, piece: Piece) {
    match piece {
        Piece::Frames(frames) => frames.samples.iter().for_each(|sample| bytes.put_i16_le(*sample)),
        Piece::Gap(gap) => {
            let samples = gap.frame_count.unwrap_or(0).saturating_mul(proto::FRAME_SAMPLES as u64);
            bytes.put_bytes(0, 2 * samples.min(MAX_SILENCE_SAMPLES) as usize);
        }
        Piece::Quiet => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequencer::Gap;

    #[test]
    fn gap_is_silence_of_its_length_within_reason() {
        for (frame_count, samples) in [(Some(5), 1_600), (None, 0), (Some(u64::MAX), MAX_SILENCE_SAMPLES as usize)] {
            let mut bytes = BytesMut::new();
            append(&mut bytes, Piece::Gap(Gap { frame_count, ..Gap::skipped(9, 5, 0) }));
            assert_eq!(bytes, vec![0_u8; 2 * samples], "{frame_count:?}");
        }
    }
}
