//! JSON answers: a line of JSON, and how an error looks on HTTP:
//! `{"error":{"code":"node_unavailable","message":"..."}}` with the status of its code.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use hub_base::error::{Code, Error};
use serde::Serialize;
use utoipa::ToSchema;

/// An answer of compact JSON with a newline at its end.
#[derive(Debug)]
pub(super) struct Line<T>(pub(super) T);

impl<T: Serialize> IntoResponse for Line<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes).into_response()
            }
            Err(why) => Failure::from(Error::new(Code::Internal, format!("the answer cannot be written: {why}")))
                .into_response(),
        }
    }
}

/// Body of every answer that is not a success.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    /// What went wrong.
    error: ProblemDetail,
}

/// What went wrong, for programs and for people.
#[derive(Debug, Serialize, ToSchema)]
struct ProblemDetail {
    /// Stable word to branch on.
    #[schema(example = "node_unavailable")]
    code: &'static str,
    /// One sentence for people.
    #[schema(example = "the cat node cannot be reached: Connection refused (os error 111)")]
    message: String,
}

/// An error as an answer of the gateway: [`Error`] knows nothing of axum.
#[derive(Debug)]
pub(super) struct Failure(Error);

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(Error { code, message }) = self;
        let body = Problem { error: ProblemDetail { code: code.as_str(), message } };
        (code.http(), Line(body)).into_response()
    }
}
