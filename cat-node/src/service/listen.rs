//! `Listen`: the tape from a place on, then live, until the caller hangs up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daemon::quiet::Quiet;
use futures_util::stream;
use proto::listen_response::Event;
use proto::{Cursor, Encoding, FRAME_MS, Gap, GapReason, ListenRequest, ListenResponse};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tracing::{debug, warn};

use super::stream::{ResponseStream, stopping};
use super::wire::Messages;
use crate::node::Node;
use crate::tape::reader::Reader;
use crate::tape::{Piece, Want};

/// Lengths of audio in a message that a caller may ask for, in milliseconds. The first is the default.
const MESSAGE_MS: [u32; 3] = [20, 40, 100];

/// A slow listener is logged at most so often.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// What a caller wants, checked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    frames: usize,
    encoding: Encoding,
    from: Option<Cursor>,
}

impl Wish {
    /// # Errors
    /// `INVALID_ARGUMENT` for what the node does not know.
    pub(super) fn of(request: &ListenRequest) -> Result<Self, Status> {
        let message_ms = if request.frame_ms == 0 { MESSAGE_MS[0] } else { request.frame_ms };
        if !MESSAGE_MS.contains(&message_ms) {
            return Err(Status::invalid_argument(format!("frame_ms is {message_ms}, not 20, 40 or 100")));
        }
        let encoding = Encoding::try_from(request.encoding).map_err(|_| {
            Status::invalid_argument(format!("encoding {} is not known; 0 is PCM, 1 is FLAC", request.encoding))
        })?;
        Ok(Self { frames: (message_ms / FRAME_MS) as usize, encoding, from: request.from })
    }
}

pub(super) fn stream(
    node: Arc<Node>,
    wish: Wish,
    peer: Option<SocketAddr>,
    permit: OwnedSemaphorePermit,
) -> ResponseStream<ListenResponse> {
    let listener = Listener::new(node, wish, peer, permit);
    Box::pin(stream::unfold(Some(listener), |listener| async {
        let mut listener = listener?;
        match listener.next().await {
            Ok(message) => Some((Ok(message), Some(listener))),
            Err(status) => Some((Err(status), None)),
        }
    }))
}

/// One caller. It is dropped as soon as the caller is gone.
struct Listener {
    node: Arc<Node>,
    reader: Reader,
    want: Want,
    samples: Vec<i16>,
    messages: Messages,
    /// What is told before anything of the tape.
    first: Option<Gap>,
    peer: Option<SocketAddr>,
    slow_log: Quiet,
    _permit: OwnedSemaphorePermit,
}

impl Listener {
    fn new(node: Arc<Node>, wish: Wish, peer: Option<SocketAddr>, permit: OwnedSemaphorePermit) -> Self {
        let boot_id = node.tape.boot_id();
        let (reader, first) = match wish.from {
            None => (Reader::live(&node.tape), None),
            Some(cursor) if cursor.boot_id == 0 || cursor.boot_id == boot_id => {
                (Reader::at(&node.tape, cursor.sequence), None)
            }
            Some(cursor) => {
                let lost = Gap {
                    boot_id: cursor.boot_id,
                    first_sequence: cursor.sequence,
                    frame_count: 0,
                    reason: GapReason::NodeRestarted.into(),
                    detail: String::new(),
                };
                (Reader::at(&node.tape, 0), Some(lost))
            }
        };
        node.status.counters.subscribers.fetch_add(1, Ordering::Relaxed);
        debug!(?peer, from = reader.cursor(), behind = reader.behind(), "subscriber came");
        Self {
            reader,
            want: Want::whole(wish.frames),
            samples: Vec::new(),
            messages: Messages::new(&node, wish.encoding),
            first,
            peer,
            slow_log: Quiet::new(LOG_PERIOD),
            node,
            _permit: permit,
        }
    }

    async fn next(&mut self) -> Result<ListenResponse, Status> {
        if let Some(gap) = self.first.take() {
            return Ok(ListenResponse { event: Some(Event::Gap(gap)) });
        }
        // One who catches up as fast as it can must leave something to the others on this thread.
        tokio::task::consume_budget().await;
        loop {
            if self.node.stop.is_cancelled() {
                return Err(stopping());
            }
            if let Some(piece) = self.reader.read(self.want, &mut self.samples) {
                self.log_loss(&piece);
                return Ok(self.messages.message(&self.node, piece, &self.samples));
            }
            tokio::select! {
                () = self.reader.wait() => {}
                () = self.node.stop.cancelled() => {}
            }
        }
    }

    fn log_loss(&mut self, piece: &Piece) {
        if let Piece::Gap(gap) = piece
            && gap.reason == GapReason::SubscriberTooSlow
            && let Some(held_back) = self.slow_log.allow()
        {
            warn!(lost = gap.frame_count, peer = ?self.peer, held_back, "subscriber fell behind");
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.node.status.counters.subscribers.fetch_sub(1, Ordering::Relaxed);
        debug!(peer = ?self.peer, at = self.reader.cursor(), "subscriber went");
    }
}
