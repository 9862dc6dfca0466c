//! A node's sound for a person who listens now: a stream of its own beside the hub's, from the last second on.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use daemon::shutdown::CancellationToken;
use hub_base::error::{Error, Who, within};
use hub_nodes::Node;
use proto::{Encoding, ListenRequest, ListenResponse};
use sound::SAMPLE_RATE_HZ;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tonic::{Request, Streaming};
use tracing::info;

use super::sequencer::{Heard, Sequencer};

/// How long a node may take to begin the stream.
const LISTEN_DEADLINE: Duration = Duration::from_secs(3);

/// Length of audio in a message, in milliseconds.
const MESSAGE_MS: u32 = 100;

/// Messages that wait for a listener: 10 s. One that is further behind is cut off: what it would hear is not live.
const AUDIO_QUEUE: usize = 100;

/// Sound from before the request, in 20 ms frames: players begin when they have some, and this second comes at once.
const HISTORY_FRAMES: u64 = 50;

/// A longer gap is heard as so much silence: nobody waits an hour for what comes after it.
const MAX_SILENCE_SAMPLES: u64 = 10 * SAMPLE_RATE_HZ as u64;

/// A node that sends nothing for so long is given up.
const QUIET_AFTER: Duration = Duration::from_secs(30);

/// Opens a stream of a node's samples: canonical audio as little-endian bytes. A gap is silence of its length. It ends when the
/// node goes away, the listener falls behind or hangs up, or the hub stops. Within a tokio runtime.
///
/// # Errors
/// About the node, as [`Error::from_status`].
pub async fn open(node: &Node, stop: CancellationToken) -> Result<mpsc::Receiver<Bytes>, Error> {
    let description = node.describe().await?;
    let tape = description.tape.unwrap_or_default();
    let from = tape.next_sequence.saturating_sub(HISTORY_FRAMES).max(tape.oldest_sequence);
    let sequencer = Sequencer::resume(description.boot_id, from);
    let (from, encoding) = (Some(sequencer.cursor()), Encoding::PcmS16le as i32);
    // No timeout on the request: it would end the stream.
    let mut client = node.client();
    let call = client.listen(Request::new(ListenRequest { frame_ms: MESSAGE_MS, from, encoding }));
    let stream = within(Who::Node, LISTEN_DEADLINE, call).await?.into_inner();
    let (audio, listener) = mpsc::channel(AUDIO_QUEUE);
    let url = node.url().to_owned();
    tokio::spawn(async move {
        if pump(stream, sequencer, &audio, &stop).await == Ended::TooSlow {
            info!(node = url, "a live listener fell behind and is cut off");
        }
    });
    Ok(listener)
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    TooSlow,
    /// The node, the listener or the hub.
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
        sequencer.take(message, |heard| append(&mut bytes, heard));
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

fn append(bytes: &mut BytesMut, heard: Heard) {
    match heard {
        Heard::Frames(frames) => frames.samples.iter().for_each(|sample| bytes.put_i16_le(*sample)),
        Heard::Lost(lost) => {
            let samples = lost.frame_count.unwrap_or(0).saturating_mul(proto::FRAME_SAMPLES as u64);
            bytes.put_bytes(0, 2 * samples.min(MAX_SILENCE_SAMPLES) as usize);
        }
        Heard::Quiet => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequencer::Lost;

    #[test]
    fn gap_is_silence_of_its_length_within_reason() {
        for (frame_count, samples) in [(Some(5), 1_600), (None, 0), (Some(u64::MAX), MAX_SILENCE_SAMPLES as usize)] {
            let mut bytes = BytesMut::new();
            append(&mut bytes, Heard::Lost(Lost { frame_count, ..Lost::skipped(9, 5, 0) }));
            assert_eq!(bytes, vec![0_u8; 2 * samples], "{frame_count:?}");
        }
    }
}
