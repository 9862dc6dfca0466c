//! Admits calls. It limits how many run at the same time, how large their requests are, and how long they take to
//! arrive. A call ends when the time that its client waits is over.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Bytes, Service};

use super::half_sent::{Arrival, Arriving, HalfSent};
use super::limits::{
    MAX_BYTES_IN_FLIGHT, MAX_CALLS, MAX_CALLS_PER_ADDRESS, MAX_HALF_SENT, MAX_REQUEST_BYTES, MAX_WATCHES,
    REFLECTION_TIMEOUT, REQUEST_TIMEOUT, SMALL_REQUEST_BYTES,
};
use crate::call::{Patience, TIMEOUT, timeout_in};
use crate::connections::{Busy, Place};
use crate::quota::{Full, Permit, Quota};

/// The call that lasts as long as the client likes.
const WATCH: &str = "/grpc.health.v1.Health/Watch";

/// The start of the paths of reflection, in both versions.
const REFLECTION: &str = "/grpc.reflection.";

/// The layer. Its clones share the limits.
#[derive(Debug, Clone)]
pub(super) struct Intake {
    calls: Quota,
    watches: Quota,
    half_sent: HalfSent,
    /// Bytes of the requests of all calls in flight.
    bytes: Arc<AtomicUsize>,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            calls: Quota::new(MAX_CALLS, MAX_CALLS_PER_ADDRESS),
            watches: Quota::new(MAX_WATCHES, MAX_WATCHES / 2),
            half_sent: HalfSent::new(MAX_HALF_SENT),
            bytes: Arc::default(),
        }
    }
}

impl<S> tower::Layer<S> for Intake {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, intake: self.clone() }
    }
}

/// The services behind an [`Intake`].
#[derive(Debug, Clone)]
pub(super) struct Limited<S> {
    inner: S,
    intake: Intake,
}

impl<S> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let call = match self.intake.admit(&request) {
            Ok(call) => Arc::new(call),
            Err(status) => return Box::pin(std::future::ready(Ok(status.into_http()))),
        };
        let timeout = match timeout_of(request.headers()) {
            Ok(timeout) => timeout,
            Err(status) => return Box::pin(std::future::ready(Ok(status.into_http()))),
        };
        request.headers_mut().remove(TIMEOUT);
        if let Some(timeout) = timeout {
            request.extensions_mut().insert(Patience(timeout));
        }
        let time = if request.uri().path().starts_with(REFLECTION) { REFLECTION_TIMEOUT } else { REQUEST_TIMEOUT };
        let request =
            request.map(|body| Body::new(Arriving::new(body, time, &self.intake.half_sent, Arc::clone(&call))));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = match timeout {
                None => answer.await,
                Some(timeout) => tokio::time::timeout(timeout, answer)
                    .await
                    .unwrap_or_else(|_| Ok(Status::deadline_exceeded("the client's deadline has passed").into_http())),
            };
            answer.map(|answer| answer.map(|body| Body::new(Answering { body, _call: call })))
        })
    }
}

impl Intake {
    fn admit(&self, request: &Request<Body>) -> Result<Call, Status> {
        let place = request.extensions().get::<Arc<Place>>().map(Arc::clone);
        let from = place.as_ref().map(|place| place.from());
        let of_all = self.calls.take(from).map_err(refusal)?;
        let watch = (request.uri().path() == WATCH).then(|| self.watches.take(from)).transpose().map_err(refusal)?;
        Ok(Call {
            place,
            busy: OnceLock::new(),
            bytes: AtomicUsize::new(0),
            of_all_calls: Arc::clone(&self.bytes),
            _permits: (of_all, watch),
        })
    }
}

fn refusal(full: Full) -> Status {
    Status::resource_exhausted(match full {
        Full::All(most) => format!("{most} calls are in flight, the most that are allowed; try again later"),
        Full::Address(most) => format!("{most} calls of this address are in flight, its most; try again later"),
    })
}

/// A call in flight.
#[derive(Debug)]
struct Call {
    place: Option<Arc<Place>>,
    /// Set once the request has arrived.
    busy: OnceLock<Busy>,
    /// Bytes of its request so far.
    bytes: AtomicUsize,
    of_all_calls: Arc<AtomicUsize>,
    _permits: (Permit, Option<Permit>),
}

impl Arrival for Call {
    fn bytes(&self, bytes: usize) -> Result<(), Status> {
        let own = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let all = self.of_all_calls.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if own > MAX_REQUEST_BYTES {
            return Err(Status::resource_exhausted("the request has too many bytes"));
        }
        if own > SMALL_REQUEST_BYTES && all > MAX_BYTES_IN_FLIGHT {
            return Err(Status::resource_exhausted("the requests in flight have too many bytes; try again later"));
        }
        Ok(())
    }

    fn complete(&self) {
        // From now on the connection is not idle.
        if let Some(place) = &self.place {
            self.busy.get_or_init(|| place.begin());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.of_all_calls.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// The body of an answer. The call ends with it.
struct Answering {
    body: Body,
    _call: Arc<Call>,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long the client waits, by its header.
fn timeout_of(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(TIMEOUT) else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(timeout_in);
    timeout.map(Some).ok_or_else(|| Status::invalid_argument("grpc-timeout is not a number and a unit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("1S", Some(Duration::from_secs(1))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("250m", Some(Duration::from_millis(250))),
            ("5u", Some(Duration::from_micros(5))),
            ("7n", Some(Duration::from_nanos(7))),
            ("2M", Some(Duration::from_secs(120))),
            ("", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("123456789S", None),
            ("1ä", None),
        ] {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static(TIMEOUT),
                http::HeaderValue::from_bytes(text.as_bytes()).unwrap(),
            )]);
            assert_eq!(timeout_of(&headers).ok().flatten(), expected, "{text}");
        }
        assert_eq!(timeout_of(&HeaderMap::new()).unwrap(), None);
    }
}
