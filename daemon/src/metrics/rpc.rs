//! A tower layer that counts the calls on a gRPC port, and serves `/metrics` over plain HTTP on the same port.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::body::Body;
use tonic::codegen::http::header::{ALLOW, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use tonic::codegen::http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use tonic::codegen::{BoxFuture, Bytes, Service};
use tonic::{Code, Status};

use super::Calls;
use super::calls::Call;

/// The path of the page of metrics.
pub(crate) const PATH: &str = "/metrics";

/// Makes the page of metrics.
pub type Render = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = String> + Send>> + Send + Sync>;

/// The layer. The server must accept plain HTTP too (`accept_http1`).
#[derive(Clone)]
pub struct Meter {
    calls: Arc<Calls>,
    render: Render,
}

impl Meter {
    /// Counts calls in `calls`, where their names look like `proto.cat/Listen`, and answers `/metrics` with what
    /// `render` makes.
    pub fn new(calls: Arc<Calls>, render: Render) -> Self {
        Self { calls, render }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl<S> tower::Layer<S> for Meter {
    type Service = Metered<S>;

    fn layer(&self, inner: S) -> Metered<S> {
        Metered { inner, meter: self.clone() }
    }
}

/// The services behind a [`Meter`].
#[derive(Debug, Clone)]
pub struct Metered<S> {
    inner: S,
    meter: Meter,
}

impl<S> Service<Request<Body>> for Metered<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: 'static,
{
    type Response = Response<Counted>;
    type Error = S::Error;
    type Future = BoxFuture<Self::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !is_grpc(&request) {
            let (method, path) = (request.method().clone(), request.uri().path() == PATH);
            let render = Arc::clone(&self.meter.render);
            return Box::pin(async move { Ok(plain(&method, path, render).await) });
        }
        let name = request.uri().path().trim_start_matches('/');
        let mut call = self.meter.calls.begin(name, word(Code::Cancelled));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            call.answered();
            // A call that fails at once has its status in the headers, and no body.
            if let Some(code) = code_in(answer.headers()) {
                call.end(word(code));
            }
            Ok(answer.map(|body| Counted { body, call: Some(call) }))
        })
    }
}

/// Whether this is a gRPC request. A request with the content type of gRPC on HTTP/1.1 is not: no gRPC client sends
/// that, but a web page could (with DNS rebinding, even under its own host name).
fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    request.version() == Version::HTTP_2
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Content type of errors.
const JSON: &str = "application/json";

/// An error in the format of the hub's gateway.
fn error(code: &str, message: &str) -> String {
    format!("{{\"error\":{{\"code\":\"{code}\",\"message\":\"{message}\"}}}}\n")
}

/// An answer that is one piece.
fn whole(status: StatusCode, content_type: &'static str, text: String) -> Response<Counted> {
    let mut answer = Response::new(Counted { body: Body::new(Whole(Some(text.into()))), call: None });
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// The answer to a program without a key that asks for `/metrics` without a good token.
pub(crate) fn needs_token() -> Response<Counted> {
    let message = "/metrics needs a token here: `cat-node token add NAME` on the node prints one; send it as \
                   Authorization: Bearer TOKEN";
    let mut answer = whole(StatusCode::UNAUTHORIZED, JSON, error("unauthenticated", message));
    answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

/// Answers plain HTTP.
async fn plain(method: &Method, is_page: bool, render: Render) -> Response<Counted> {
    let (status, content_type, text) = if !is_page {
        let text = error("not_found", "this port speaks gRPC; over plain HTTP it serves only /metrics");
        (StatusCode::NOT_FOUND, JSON, text)
    } else if method == Method::GET || method == Method::HEAD {
        (StatusCode::OK, super::CONTENT_TYPE, render().await)
    } else {
        (StatusCode::METHOD_NOT_ALLOWED, JSON, error("method_not_allowed", "/metrics allows only GET and HEAD"))
    };
    let mut answer = whole(status, content_type, text);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET,HEAD"));
    }
    answer
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// The name of a status code in gRPC.
fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The body of an answer. It ends the call with the status in its trailers. If it is dropped earlier, the client has
/// hung up and the call counts as cancelled.
#[derive(Debug)]
pub struct Counted {
    body: Body,
    call: Option<Call>,
}

/// A body that belongs to no counted call.
impl From<Body> for Counted {
    fn from(body: Body) -> Self {
        Self { body, call: None }
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(call) = &mut self.call {
            match &frame {
                Some(Ok(frame)) => {
                    if let Some(code) = frame.trailers_ref().and_then(code_in) {
                        call.end(word(code));
                    }
                }
                Some(Err(status)) => call.end(word(status.code())),
                None => {}
            }
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

/// A body that is one piece.
struct Whole(Option<Bytes>);

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
