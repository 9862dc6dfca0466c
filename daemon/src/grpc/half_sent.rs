//! Requests that have not arrived completely. They are few, small and young.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

/// The requests of a port that are not complete yet. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct HalfSent {
    most: usize,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// By age. Dropping a sender ends its request.
    requests: BTreeMap<u64, oneshot::Sender<()>>,
}

impl HalfSent {
    /// At most `most` requests.
    pub(super) fn new(most: usize) -> Self {
        Self { most, waiting: Arc::default() }
    }

    /// Adds a request. If there are too many, the oldest one ends.
    fn add(&self) -> Turn {
        let (alive, ended) = oneshot::channel();
        let mut waiting = self.lock();
        let id = waiting.next;
        waiting.next += 1;
        if waiting.requests.len() >= self.most {
            waiting.requests.pop_first();
        }
        waiting.requests.insert(id, alive);
        drop(waiting);
        Turn { id, ended, all: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a request among those that are not complete.
#[derive(Debug)]
struct Turn {
    id: u64,
    ended: oneshot::Receiver<()>,
    all: HalfSent,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all.lock().requests.remove(&self.id);
    }
}

/// Follows how a request arrives.
pub(super) trait Arrival {
    /// Counts bytes that have arrived.
    ///
    /// # Errors
    /// If they are too many. The call then ends with this status.
    fn bytes(&self, bytes: usize) -> Result<(), Status>;

    /// The whole request has arrived.
    fn complete(&self);
}

/// The body of a request, with limits on its size and on the time that it takes.
pub(super) struct Arriving<A> {
    body: Body,
    /// `None`: the body has arrived, or its limit has been exceeded.
    limits: Option<(Turn, Pin<Box<Sleep>>)>,
    arrival: Arc<A>,
}

impl<A: Arrival> Arriving<A> {
    /// Limits `body` to `time`.
    pub(super) fn new(body: Body, time: Duration, all: &HalfSent, arrival: Arc<A>) -> Self {
        let limits = (!body.is_end_stream()).then(|| (all.add(), Box::pin(sleep(time))));
        let mut arriving = Self { body, limits, arrival };
        if arriving.limits.is_none() {
            arriving.finish();
        }
        arriving
    }

    fn finish(&mut self) {
        self.limits = None;
        self.arrival.complete();
    }

    /// Whether the request has taken too long, or had to make room.
    fn check(&mut self, cx: &mut Context<'_>) -> Result<(), Status> {
        let Some((turn, deadline)) = &mut self.limits else { return Ok(()) };
        if Pin::new(&mut turn.ended).poll(cx).is_ready() {
            return Err(Status::resource_exhausted("too many requests have not arrived completely; try again later"));
        }
        if deadline.as_mut().poll(cx).is_ready() {
            return Err(Status::deadline_exceeded("the request did not arrive in time"));
        }
        Ok(())
    }
}

impl<A: Arrival> HttpBody for Arriving<A> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Err(status) = self.check(cx) {
            self.limits = None;
            return Poll::Ready(Some(Err(status)));
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Err(status) = self.arrival.bytes(frame.data_ref().map_or(0, Bytes::len)) {
                    self.limits = None;
                    return Poll::Ready(Some(Err(status)));
                }
                if self.body.is_end_stream() {
                    self.finish();
                }
            }
            None => self.finish(),
            Some(Err(_)) => self.limits = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
