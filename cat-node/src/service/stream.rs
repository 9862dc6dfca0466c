//! The streams of responses that the service returns.

use std::pin::Pin;

use futures_util::Stream;
use tonic::Status;

/// Responses of one call. Each is made when the connection asks for it, so nothing is queued for a client that does not
/// read.
pub(super) type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How a stream ends when the node stops.
pub(super) fn stopping() -> Status {
    Status::unavailable("the node is shutting down")
}
