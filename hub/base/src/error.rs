//! Errors of the hub, and the one table that maps each of them to a word, an HTTP status and a gRPC code.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use daemon::cause::{cause, without_number};
use http::StatusCode;
use tonic::metadata::MetadataValue;
use tonic::{Code as GrpcCode, Status};

use crate::text::{MAX_MESSAGE_BYTES, clean};

/// Metadata key under which a hub's gRPC errors carry [`Code::as_str`]. With it another role, in this process or in
/// another, knows exactly what failed.
const CODE_METADATA_KEY: &str = "error-code";

/// A service that the hub calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// A cat-node.
    Node,
    /// The Owner service.
    Owner,
    /// The dog service.
    Dog,
    /// The catAnalysis service.
    Analysis,
}

/// What kind of error it is. The words are stable: clients branch on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request is invalid: correct it.
    BadRequest,
    /// Nothing has this path, name or number.
    NotFound,
    /// The resource is in a state that does not allow the request: read it again.
    Conflict,
    /// The route exists, but not with this method.
    MethodNotAllowed,
    /// The name or the whole URI is too long.
    NameTooLong,
    /// The request body is too large.
    BodyTooLarge,
    /// The range begins after the last byte: request a smaller range, or the whole file.
    RangeNotSatisfiable,
    /// The maximum number of update streams is open: close one, or try again later.
    TooManyUpdateStreams,
    /// The maximum number of analyses is running: try again later.
    TooManyAnalyses,
    /// The maximum number of live audio streams is open: try again later.
    TooManyLiveStreams,
    /// The maximum number of archives is being written: try again later.
    TooManyArchives,
    /// The hub's config disables it.
    SwitchedOff,
    /// The request needs a log-in or a token.
    Unauthenticated,
    /// The role of the user or token does not allow the request.
    Forbidden,
    /// Too many log-ins failed, or too many are being checked: try again later.
    TooManyAttempts,
    /// A page of another site tried to change something.
    ForeignOrigin,
    /// The request names a host that the hub does not know: add the name to `[page] hosts`.
    UnknownHost,
    /// The service cannot be reached: try again later.
    Unavailable(Who),
    /// The service did not answer in time.
    TooSlow(Who),
    /// The service sent an invalid answer.
    BadAnswer(Who),
    /// The hub itself did not answer in time.
    RequestTooSlow,
    /// The database cannot be read or written.
    StoreUnavailable,
    /// The hub is stopping.
    Stopping,
    /// A bug in the hub.
    Internal,
}

/// Every code, to find one by its word.
const ALL: &[Code] = {
    use Code::*;
    use Who::*;
    &[
        BadRequest,
        NotFound,
        Conflict,
        MethodNotAllowed,
        NameTooLong,
        BodyTooLarge,
        RangeNotSatisfiable,
        TooManyUpdateStreams,
        TooManyAnalyses,
        TooManyLiveStreams,
        TooManyArchives,
        SwitchedOff,
        Unauthenticated,
        Forbidden,
        TooManyAttempts,
        ForeignOrigin,
        UnknownHost,
        Unavailable(Node),
        Unavailable(Owner),
        Unavailable(Dog),
        Unavailable(Analysis),
        TooSlow(Node),
        TooSlow(Owner),
        TooSlow(Dog),
        TooSlow(Analysis),
        BadAnswer(Node),
        BadAnswer(Owner),
        BadAnswer(Dog),
        BadAnswer(Analysis),
        RequestTooSlow,
        StoreUnavailable,
        Stopping,
        Internal,
    ]
};

impl Code {
    /// The stable word for this code.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The HTTP status.
    pub fn http(self) -> StatusCode {
        self.row().1
    }

    /// The gRPC code.
    pub fn grpc(self) -> GrpcCode {
        self.row().2
    }

    /// The table: word, HTTP status, gRPC code.
    fn row(self) -> (&'static str, StatusCode, GrpcCode) {
        match self {
            Self::BadRequest => ("bad_request", StatusCode::BAD_REQUEST, GrpcCode::InvalidArgument),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND, GrpcCode::NotFound),
            Self::Conflict => ("conflict", StatusCode::CONFLICT, GrpcCode::FailedPrecondition),
            Self::MethodNotAllowed => ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED, GrpcCode::Unimplemented),
            Self::NameTooLong => ("name_too_long", StatusCode::URI_TOO_LONG, GrpcCode::InvalidArgument),
            Self::BodyTooLarge => ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE, GrpcCode::InvalidArgument),
            Self::RangeNotSatisfiable => {
                ("range_not_satisfiable", StatusCode::RANGE_NOT_SATISFIABLE, GrpcCode::OutOfRange)
            }
            Self::TooManyUpdateStreams => {
                ("too_many_streams", StatusCode::TOO_MANY_REQUESTS, GrpcCode::ResourceExhausted)
            }
            Self::TooManyAnalyses => ("too_many_analyses", StatusCode::TOO_MANY_REQUESTS, GrpcCode::ResourceExhausted),
            Self::TooManyLiveStreams => {
                ("too_many_listeners", StatusCode::TOO_MANY_REQUESTS, GrpcCode::ResourceExhausted)
            }
            Self::TooManyArchives => ("too_many_archives", StatusCode::TOO_MANY_REQUESTS, GrpcCode::ResourceExhausted),
            Self::SwitchedOff => ("switched_off", StatusCode::FORBIDDEN, GrpcCode::PermissionDenied),
            Self::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED, GrpcCode::Unauthenticated),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, GrpcCode::PermissionDenied),
            Self::TooManyAttempts => ("too_many_attempts", StatusCode::TOO_MANY_REQUESTS, GrpcCode::ResourceExhausted),
            Self::ForeignOrigin => ("foreign_origin", StatusCode::FORBIDDEN, GrpcCode::PermissionDenied),
            Self::UnknownHost => ("unknown_host", StatusCode::MISDIRECTED_REQUEST, GrpcCode::PermissionDenied),
            Self::Unavailable(who) => {
                let word = match who {
                    Who::Node => "node_unavailable",
                    Who::Owner => "owner_unavailable",
                    Who::Dog => "dog_unavailable",
                    Who::Analysis => "analysis_unavailable",
                };
                (word, StatusCode::SERVICE_UNAVAILABLE, GrpcCode::Unavailable)
            }
            Self::TooSlow(who) => {
                let word = match who {
                    Who::Node => "node_too_slow",
                    Who::Owner => "owner_too_slow",
                    Who::Dog => "dog_too_slow",
                    Who::Analysis => "analysis_too_slow",
                };
                (word, StatusCode::GATEWAY_TIMEOUT, GrpcCode::DeadlineExceeded)
            }
            Self::BadAnswer(who) => {
                let word = match who {
                    Who::Node => "node_bad_answer",
                    Who::Owner => "owner_bad_answer",
                    Who::Dog => "dog_bad_answer",
                    Who::Analysis => "analysis_bad_answer",
                };
                (word, StatusCode::BAD_GATEWAY, GrpcCode::Internal)
            }
            Self::RequestTooSlow => ("request_too_slow", StatusCode::GATEWAY_TIMEOUT, GrpcCode::DeadlineExceeded),
            Self::StoreUnavailable => ("store_unavailable", StatusCode::SERVICE_UNAVAILABLE, GrpcCode::Unavailable),
            Self::Stopping => ("stopping", StatusCode::SERVICE_UNAVAILABLE, GrpcCode::Unavailable),
            Self::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR, GrpcCode::Internal),
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        ALL.iter().copied().find(|code| code.as_str() == word)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "cat node",
            Self::Owner => "owner",
            Self::Dog => "dog",
            Self::Analysis => "analysis",
        })
    }
}

/// An error: a code for programs, and a message for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// For programs: clients branch on it.
    pub code: Code,
    /// For people: what happened, to what, and what to do.
    pub message: String,
}

impl Error {
    /// An error with this code and this message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Converts the status of a failed call to `who`.
    pub fn from_status(who: Who, status: &Status) -> Self {
        let word = status.metadata().get(CODE_METADATA_KEY).and_then(|word| word.to_str().ok());
        if let Some(code) = word.and_then(Code::from_word) {
            return Self::new(code, clean(&without_number(status.message()), MAX_MESSAGE_BYTES));
        }
        if let Some(why) = status.source() {
            // There was no answer: the connection failed or broke.
            if status.code() == GrpcCode::DeadlineExceeded || has_timed_out(why) {
                return Self::new(Code::TooSlow(who), format!("the {who} did not answer in time"));
            }
            return Self::new(Code::Unavailable(who), format!("the {who} cannot be reached: {}", cause(why)));
        }
        let said = || match status.message() {
            "" => status.code().description().to_owned(),
            message => clean(&without_number(message), MAX_MESSAGE_BYTES),
        };
        match status.code() {
            // A sentence about itself, such as "the node is shutting down", needs no beginning.
            GrpcCode::Unavailable if status.message().starts_with("the ") => Self::new(Code::Unavailable(who), said()),
            GrpcCode::Unavailable => {
                Self::new(Code::Unavailable(who), format!("the {who} is not available: {}", said()))
            }
            // tonic's client returns Cancelled when its deadline has passed.
            GrpcCode::DeadlineExceeded | GrpcCode::Cancelled => {
                Self::new(Code::TooSlow(who), format!("the {who} was too slow: {}", said()))
            }
            GrpcCode::ResourceExhausted if who == Who::Analysis => Self::new(Code::TooManyAnalyses, said()),
            GrpcCode::ResourceExhausted => Self::new(Code::Unavailable(who), format!("the {who} is busy: {}", said())),
            // The caller of an animal asked the owner nothing, so it cannot correct the request.
            GrpcCode::InvalidArgument if who != Who::Owner => Self::new(Code::BadRequest, said()),
            GrpcCode::NotFound if who != Who::Owner => Self::new(Code::NotFound, said()),
            code => Self::new(Code::BadAnswer(who), format!("the {who} answered {code:?}: {}", said())),
        }
    }
}

/// Waits for the answer of `who`, at most for `deadline`.
///
/// # Errors
/// [`Code::TooSlow`] after the deadline, otherwise as [`Error::from_status`].
pub async fn within<T>(
    who: Who,
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<tonic::Response<T>, Error> {
    match tokio::time::timeout(deadline, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(Error::from_status(who, &status)),
        Err(_) => {
            let message = format!("the {who} did not answer within {} ms", deadline.as_millis());
            Err(Error::new(Code::TooSlow(who), message))
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut status = Self::new(error.code.grpc(), error.message);
        status.metadata_mut().insert(CODE_METADATA_KEY, MetadataValue::from_static(error.code.as_str()));
        status
    }
}

fn has_timed_out(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<tonic::TimeoutExpired>() {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_grpc() {
        for code in ALL {
            let error = Error::new(*code, "what happened");
            let status = Status::from(error.clone());
            assert_eq!(status.code(), code.grpc());
            assert_eq!(Error::from_status(Who::Node, &status), error);
        }
    }

    #[test]
    fn message_of_another_program_is_one_short_line() {
        let said = format!("gone\n2026-11-28 INFO hub: \u{1b}[32mall is well{}", "!".repeat(100_000));
        for status in [Status::not_found(&said), Status::from(Error::new(Code::NotFound, &said))] {
            let message = Error::from_status(Who::Node, &status).message;
            assert!(!message.contains(char::is_control) && message.len() <= MAX_MESSAGE_BYTES, "{message:?}");
        }
    }

    #[test]
    fn words_are_unique() {
        let words: std::collections::HashSet<_> = ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), ALL.len());
    }

    #[test]
    fn errors_of_other_programs_are_distinguished() {
        let code = |status: Status| Error::from_status(Who::Node, &status).code;
        assert_eq!(code(Status::unavailable("stopping")), Code::Unavailable(Who::Node));
        assert_eq!(code(Status::deadline_exceeded("")), Code::TooSlow(Who::Node));
        assert_eq!(code(Status::not_found("")), Code::NotFound);
        assert_eq!(code(Status::unimplemented("")), Code::BadAnswer(Who::Node));
        assert_eq!(code(Status::unknown("")), Code::BadAnswer(Who::Node));
        for status in [Status::invalid_argument(""), Status::not_found(""), Status::internal("")] {
            assert_eq!(Error::from_status(Who::Owner, &status).code, Code::BadAnswer(Who::Owner), "{status}");
        }
    }

    #[test]
    fn answers_of_other_programs_lose_their_error_numbers() {
        let stopping = Error::from_status(Who::Node, &Status::unavailable("the node is shutting down"));
        assert_eq!(stopping.message, "the node is shutting down");
        let said = Status::not_found("tape: No space left on device (os error 28); retrying");
        assert_eq!(Error::from_status(Who::Node, &said).message, "tape: No space left on device; retrying");
    }

    #[tokio::test]
    async fn failed_connection_is_described_in_words() {
        use tower::ServiceExt;
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for (url, why) in
            [(format!("http://{closed}"), "connection refused"), ("http://no-such-host.invalid".into(), "no such host")]
        {
            let request = http::Request::new(tonic::body::Body::empty());
            let status = crate::peer::remote(&url).unwrap().oneshot(request).await.unwrap_err();
            let error = Error::from_status(Who::Dog, &status);
            assert_eq!(error.code, Code::Unavailable(Who::Dog));
            let why = if why == "no such host" && error.message.ends_with("name server does not answer") {
                // A machine without a name server cannot tell that the name does not exist.
                "the name server does not answer"
            } else {
                why
            };
            assert_eq!(error.message, format!("the dog cannot be reached: {why}"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answer_that_never_comes_is_too_slow() {
        let never = std::future::pending::<Result<tonic::Response<()>, Status>>();
        let error = within(Who::Owner, Duration::from_secs(2), never).await.unwrap_err();
        assert_eq!(error.code, Code::TooSlow(Who::Owner));
        assert_eq!(error.message, "the owner did not answer within 2000 ms");
    }
}
