//! JSON answers, and errors over HTTP: `{"error":{"code":"node_unavailable","message":"..."}}` with the status of the
//! code.

use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use hub_base::error::{Code, Error};
use serde::Serialize;
use utoipa::ToSchema;

/// An answer of compact JSON that ends with a newline.
#[derive(Debug)]
pub(super) struct Line<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Line<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response()
            }
            Err(why) => Failure::from(Error::new(Code::Internal, format!("the answer cannot be encoded: {why}")))
                .into_response(),
        }
    }
}

/// Body of every error answer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// The error.
    error: ProblemDetail,
}

/// An error, for programs and for people.
#[derive(Debug, Serialize, ToSchema)]
struct ProblemDetail {
    /// For programs: a stable word to branch on.
    #[schema(example = "node_unavailable")]
    code: &'static str,
    /// For people: what happened, and what to do.
    #[schema(example = "the cat node cannot be reached: connection refused")]
    message: String,
}

/// An error as an answer of the gateway. ([`Error`] does not depend on axum.)
#[derive(Debug)]
pub(super) struct Failure(Error);

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

#[cfg(test)]
impl Failure {
    /// The message for people.
    pub(super) fn message(&self) -> &str {
        &self.0.message
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(Error { code, message }) = self;
        let body = Problem { error: ProblemDetail { code: code.as_str(), message } };
        (code.http(), [NOSNIFF], Line(body)).into_response()
    }
}

/// Keeps browsers from guessing another type than `Content-Type` says, such as HTML with a script.
const NOSNIFF: (HeaderName, HeaderValue) = (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// Adds [`NOSNIFF`] to an answer.
pub(super) async fn with_nosniff(mut answer: Response) -> Response {
    let (name, value) = NOSNIFF;
    answer.headers_mut().insert(name, value);
    answer
}
