//! What a gRPC port grants its clients. The table in `docs/RELIABILITY.md` has the same figures.

use std::time::Duration;

/// Most connections of a port. If all are taken, the one that has been idle longest is ended for a new one.
pub(super) const MAX_CONNECTIONS: usize = 256;

/// Most connections from one address other than loopback.
pub(super) const MAX_CONNECTIONS_PER_ADDRESS: usize = 64;

/// Percent of the file descriptors that a port's connections may use. A hub has three ports.
pub(super) const DESCRIPTOR_SHARE: u64 = 16;

/// How long a new connection may take to its first complete call: the preface of HTTP/2, headers, message.
pub(super) const FIRST_CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a connection may have no call. Clients of gRPC reconnect by themselves.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Calls in flight on one connection at most; further ones wait at the client.
pub(super) const MAX_STREAMS: u32 = 256;

/// Calls in flight on a port at most. One more is refused with `RESOURCE_EXHAUSTED`.
pub(super) const MAX_CALLS: usize = 1024;

/// Calls in flight at most from one address other than loopback.
pub(super) const MAX_CALLS_PER_ADDRESS: usize = 256;

/// Calls of `grpc.health.v1.Health/Watch` at most, which last as long as the client likes.
pub(super) const MAX_WATCHES: usize = 64;

/// Calls on a port, at most, whose request is not complete yet. For one more the oldest of them ends with
/// `RESOURCE_EXHAUSTED`, so that nobody can keep complete requests out with half-sent ones.
pub(super) const MAX_HALF_SENT: usize = 256;

/// How long a request may take to arrive after its headers.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a call of the reflection service may last, whose requests are a stream.
pub(super) const REFLECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest request that is read, in bytes, before and after decompression. Requests hold a name or a few numbers.
pub const MAX_REQUEST_BYTES: usize = 64 << 10;

/// Bytes of the requests of all calls in flight on a port. Requests that exceed them are refused with
/// `RESOURCE_EXHAUSTED`, unless they are no larger than [`SMALL_REQUEST_BYTES`].
pub(super) const MAX_BYTES_IN_FLIGHT: usize = 4 << 20;

/// Requests up to this size are always read, so that large ones keep no others out.
pub(super) const SMALL_REQUEST_BYTES: usize = 1 << 10;

/// Window of HTTP/2 for each connection and stream, in bytes: what a client may send that nobody has read yet.
pub(super) const WINDOW_BYTES: u32 = 64 << 10;

/// Most bytes of answers that wait in a stream for its client.
pub(super) const SEND_BUFFER_BYTES: usize = 128 << 10;

/// Most bytes of the headers of a call.
pub(super) const MAX_HEADER_BYTES: u32 = 16 << 10;

/// How long a client of HTTP/1.1 may take to send the head of its request.
pub(super) const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a silent client is probed, so that one whose machine vanished does not keep its place.
pub(super) const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);

/// How long the answer to a probe may take.
pub(super) const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may leave sent data unacknowledged before its connection is cut.
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(30);
