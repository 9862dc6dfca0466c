//! `AnalyzeCatSound`: sends 30 messages, one per second, to callers that ask for it each with the audio of the second
//! before it.

use std::sync::Arc;
use std::time::Duration;

use daemon::quota::Permit;
use futures_util::stream;
use proto::{AnalyzeCatSoundRequest, AnalyzeCatSoundResponse, Encoding, SourceState};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::Status;

use super::stream::{ResponseStream, stopping};
use super::wire::Messages;
use crate::node::Node;
use crate::subscribers::Visit;
use crate::tape::Want;
use crate::tape::reader::Reader;

/// Messages per call, and so the length of a call in seconds.
pub(super) const MESSAGES: u64 = 30;

/// Frames per message: a second.
const FRAMES_PER_MESSAGE: u64 = 50;

/// Consecutive frames that are sent as one piece of audio: the most that `Listen` sends too.
const FRAMES_PER_PIECE: usize = 5;

/// How long a message waits for the last frames of its second, because sound cards deliver some tens of milliseconds at
/// a time. Frames that come later go into the next message.
const GRACE: Duration = Duration::from_millis(200);

pub(super) fn stream(
    node: Arc<Node>,
    request: AnalyzeCatSoundRequest,
    visit: Option<Visit>,
    permit: Permit,
) -> ResponseStream<AnalyzeCatSoundResponse> {
    let reader = Reader::live(&node.tape);
    let analysis = Analysis {
        start: Instant::now(),
        first_sequence: reader.cursor(),
        reader,
        sent: 0,
        samples: Vec::new(),
        messages: Messages::new(&node, Encoding::PcmS16le),
        request,
        node,
        _visit: visit,
        _permit: permit,
    };
    Box::pin(stream::unfold(Some(analysis), |analysis| async {
        let mut analysis = analysis.filter(|analysis| analysis.sent < MESSAGES)?;
        match analysis.next().await {
            Ok(message) => Some((Ok(message), Some(analysis))),
            Err(status) => Some((Err(status), None)),
        }
    }))
}

/// Serves one call.
struct Analysis {
    node: Arc<Node>,
    request: AnalyzeCatSoundRequest,
    start: Instant,
    /// Number of the first frame that was captured after the call began.
    first_sequence: u64,
    reader: Reader,
    /// Messages sent.
    sent: u64,
    samples: Vec<i16>,
    messages: Messages,
    _visit: Option<Visit>,
    _permit: Permit,
}

impl Analysis {
    async fn next(&mut self) -> Result<AnalyzeCatSoundResponse, Status> {
        let number = self.sent;
        self.sent += 1;
        // Counted from the start and not from the last message, so that delays do not add up.
        let due = self.start + Duration::from_secs(number + 1);
        let before = self.first_sequence + (number + 1) * FRAMES_PER_MESSAGE;
        let node = Arc::clone(&self.node);
        tokio::select! {
            () = sleep_until(due) => {}
            () = node.stop.cancelled() => return Err(stopping()),
        }
        let result = format!("{} Meaw #{number}", self.request.cat_name);
        if !self.request.with_audio {
            return Ok(AnalyzeCatSoundResponse { result, ..AnalyzeCatSoundResponse::default() });
        }
        while self.node.tape.next_sequence() < before && self.source_runs() {
            // After the grace, the message is sent with the frames that are there.
            if timeout_at(due + GRACE, self.reader.wait()).await.is_err() {
                break;
            }
        }
        let want = Want { frames: FRAMES_PER_PIECE, before, partial: true };
        let mut audio = Vec::new();
        while let Some(piece) = self.reader.read(want, &mut self.samples) {
            audio.push(self.messages.message(&self.node, piece, &self.samples));
        }
        Ok(AnalyzeCatSoundResponse { result, audio, state: self.node.status.state().into() })
    }

    fn source_runs(&self) -> bool {
        matches!(self.node.status.state(), SourceState::Capturing | SourceState::Silent)
    }
}
