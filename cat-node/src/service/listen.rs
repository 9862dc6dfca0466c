//! `Listen`: streams the tape from a cursor on, and then live, until the subscriber hangs up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daemon::quiet::Quiet;
use daemon::quota::Permit;
use futures_util::stream;
use proto::listen_response::Event;
use proto::{Cursor, Encoding, FRAME_MS, Gap, GapReason, ListenRequest, ListenResponse};
use tonic::Status;
use tracing::{debug, warn};

use super::stream::{ResponseStream, stopping};
use super::wire::Messages;
use crate::node::Node;
use crate::subscribers::Visit;
use crate::tape::reader::Reader;
use crate::tape::{Piece, Want};

/// Lengths of audio in a message that a subscriber may ask for, in milliseconds. The first is the default.
const MESSAGE_MS: [u32; 3] = [20, 40, 100];

/// A slow subscriber is logged at most this often.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// A checked request of a subscriber.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    /// Frames of audio in a message.
    frames: usize,
    encoding: Encoding,
    /// Where to begin. `None`: live.
    from: Option<Cursor>,
}

impl Subscription {
    /// Checks a request.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the node does not offer the message length or the encoding.
    pub(super) fn of(request: &ListenRequest) -> Result<Self, Status> {
        let message_ms = if request.frame_ms == 0 { MESSAGE_MS[0] } else { request.frame_ms };
        if !MESSAGE_MS.contains(&message_ms) {
            return Err(Status::invalid_argument(format!("frame_ms must be 20, 40 or 100, not {message_ms}")));
        }
        let encoding = Encoding::try_from(request.encoding).map_err(|_| {
            Status::invalid_argument(format!("encoding must be 0 (PCM) or 1 (FLAC), not {}", request.encoding))
        })?;
        Ok(Self { frames: (message_ms / FRAME_MS) as usize, encoding, from: request.from })
    }
}

pub(super) fn stream(
    node: Arc<Node>,
    subscription: Subscription,
    peer: Option<SocketAddr>,
    visit: Visit,
    permit: Permit,
) -> ResponseStream<ListenResponse> {
    let subscriber = Subscriber::new(node, subscription, peer, visit, permit);
    Box::pin(stream::unfold(Some(subscriber), |subscriber| async {
        let mut subscriber = subscriber?;
        match subscriber.next().await {
            Ok(message) => Some((Ok(message), Some(subscriber))),
            Err(status) => Some((Err(status), None)),
        }
    }))
}

/// Serves one subscriber. Dropped as soon as the subscriber hangs up.
struct Subscriber {
    node: Arc<Node>,
    reader: Reader,
    want: Want,
    samples: Vec<i16>,
    messages: Messages,
    /// A gap to send before anything from the tape.
    first: Option<Gap>,
    peer: Option<SocketAddr>,
    slow_log: Quiet,
    _visit: Visit,
    _permit: Permit,
}

impl Subscriber {
    fn new(
        node: Arc<Node>,
        subscription: Subscription,
        peer: Option<SocketAddr>,
        visit: Visit,
        permit: Permit,
    ) -> Self {
        let boot_id = node.tape.boot_id();
        let (reader, first) = match subscription.from {
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
        debug!(?peer, from = reader.cursor(), behind = reader.behind(), "subscription begins");
        Self {
            reader,
            want: Want::whole(subscription.frames),
            samples: Vec::new(),
            messages: Messages::new(&node, subscription.encoding),
            first,
            peer,
            slow_log: Quiet::new(LOG_PERIOD),
            node,
            _visit: visit,
            _permit: permit,
        }
    }

    async fn next(&mut self) -> Result<ListenResponse, Status> {
        if let Some(gap) = self.first.take() {
            return Ok(ListenResponse { event: Some(Event::Gap(gap)) });
        }
        // A subscriber that catches up at full speed must leave time for the others on this thread.
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
            && let Some(suppressed_lines) = self.slow_log.allow()
        {
            warn!(lost = gap.frame_count, peer = ?self.peer, suppressed_lines, "subscriber fell behind");
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.node.status.counters.subscribers.fetch_sub(1, Ordering::Relaxed);
        debug!(peer = ?self.peer, at = self.reader.cursor(), "subscription ends");
    }
}
