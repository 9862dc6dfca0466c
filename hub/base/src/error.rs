//! What can go wrong, and the one place that says what it is called on gRPC and on HTTP.

use std::error::Error as _;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use http::StatusCode;
use tonic::metadata::MetadataValue;
use tonic::{Code as GrpcCode, Status};

/// Metadata key under which a hub's gRPC errors carry [`Code::as_str`], so that another role, in this process or in
/// another, knows exactly what failed.
const CODE_METADATA_KEY: &str = "error-code";

/// Somebody the hub asks.
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

/// What went wrong. The words are stable: clients branch on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The request makes no sense: correct it.
    BadRequest,
    /// There is no such route, cat or analysis.
    NotFound,
    /// It is not in the state for that: look at it again.
    Conflict,
    /// The route knows other methods.
    MethodNotAllowed,
    /// The name or the whole URI is too long.
    NameTooLong,
    /// The request body is too large.
    BodyTooLarge,
    /// The range begins beyond the end: ask for less, or for all.
    RangeNotSatisfiable,
    /// As many live streams as the hub allows are open: close one, or try again later.
    TooManyStreams,
    /// As many analyses as the hub allows are running: try again later.
    TooManyAnalyses,
    /// As many people as the hub allows listen to a microphone live: try again later.
    TooManyListeners,
    /// The owner of the hub has switched it off.
    SwitchedOff,
    /// A page of another site tried to change something here.
    ForeignOrigin,
    /// The hub was called by a name that it does not know: add it to `page.hosts`.
    UnknownHost,
    /// It cannot be reached: try again later.
    Unavailable(Who),
    /// It did not answer in time.
    TooSlow(Who),
    /// It answered something that makes no sense.
    BadAnswer(Who),
    /// The hub itself did not answer in time.
    RequestTooSlow,
    /// The database does not work.
    StoreUnavailable,
    /// The hub is stopping.
    Stopping,
    /// A fault of the hub.
    Internal,
}

/// Every code, for the documentation and for reading codes back.
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
        TooManyStreams,
        TooManyAnalyses,
        TooManyListeners,
        SwitchedOff,
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
    /// The stable word for it.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// How it looks on HTTP.
    pub fn http(self) -> StatusCode {
        self.row().1
    }

    /// How it looks on gRPC.
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
            Self::TooManyStreams => ("too_many_streams", StatusCode::TOO_MANY_REQUESTS, GrpcCode::ResourceExhausted),
            Self::TooManyAnalyses => ("too_many_analyses", StatusCode::TOO_MANY_REQUESTS, GrpcCode::ResourceExhausted),
            Self::TooManyListeners => {
                ("too_many_listeners", StatusCode::TOO_MANY_REQUESTS, GrpcCode::ResourceExhausted)
            }
            Self::SwitchedOff => ("switched_off", StatusCode::FORBIDDEN, GrpcCode::PermissionDenied),
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

/// What went wrong, with a sentence about it for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What, for programs.
    pub code: Code,
    /// What, for people: one sentence without its full stop.
    pub message: String,
}

impl Error {
    /// An error with a sentence about it.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What a failed call to `who` means.
    pub fn from_status(who: Who, status: &Status) -> Self {
        let word = status.metadata().get(CODE_METADATA_KEY).and_then(|word| word.to_str().ok());
        if let Some(code) = word.and_then(Code::from_word) {
            return Self::new(code, status.message());
        }
        if let Some(why) = status.source() {
            // It never came to an answer: no connection, or one that broke.
            if status.code() == GrpcCode::DeadlineExceeded || has_timed_out(why) {
                return Self::new(Code::TooSlow(who), format!("the {who} did not answer in time"));
            }
            return Self::new(Code::Unavailable(who), format!("the {who} cannot be reached: {}", innermost(why)));
        }
        let said = || if status.message().is_empty() { status.code().description() } else { status.message() };
        match status.code() {
            GrpcCode::Unavailable => {
                Self::new(Code::Unavailable(who), format!("the {who} is not available: {}", said()))
            }
            // tonic's own client says Cancelled when the deadline it was given has passed.
            GrpcCode::DeadlineExceeded | GrpcCode::Cancelled => {
                Self::new(Code::TooSlow(who), format!("the {who} was too slow: {}", said()))
            }
            GrpcCode::ResourceExhausted if who == Who::Analysis => Self::new(Code::TooManyAnalyses, said()),
            GrpcCode::ResourceExhausted => Self::new(Code::Unavailable(who), format!("the {who} is busy: {}", said())),
            GrpcCode::InvalidArgument => Self::new(Code::BadRequest, said()),
            GrpcCode::NotFound => Self::new(Code::NotFound, said()),
            code => Self::new(Code::BadAnswer(who), format!("the {who} answered {code:?}: {}", said())),
        }
    }
}

/// Waits for the answer of `who`, `deadline` long at most.
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

fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
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
    fn words_are_unique() {
        let words: std::collections::HashSet<_> = ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), ALL.len());
    }

    #[test]
    fn answers_of_other_programs_are_told_apart() {
        let code = |status: Status| Error::from_status(Who::Node, &status).code;
        assert_eq!(code(Status::unavailable("stopping")), Code::Unavailable(Who::Node));
        assert_eq!(code(Status::deadline_exceeded("")), Code::TooSlow(Who::Node));
        assert_eq!(code(Status::not_found("")), Code::NotFound);
        assert_eq!(code(Status::unimplemented("")), Code::BadAnswer(Who::Node));
        assert_eq!(code(Status::unknown("")), Code::BadAnswer(Who::Node));
    }

    #[tokio::test(start_paused = true)]
    async fn answer_that_never_comes_is_too_slow() {
        let never = std::future::pending::<Result<tonic::Response<()>, Status>>();
        let error = within(Who::Owner, Duration::from_secs(2), never).await.unwrap_err();
        assert_eq!(error.code, Code::TooSlow(Who::Owner));
        assert_eq!(error.message, "the owner did not answer within 2000 ms");
    }
}
