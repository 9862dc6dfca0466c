//! What a request brings: query parameters, numbers in the path, JSON bodies.

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use hub_base::error::{Code, Error};
use serde::de::DeserializeOwned;

use crate::json::Failure;

/// Query parameters; what cannot be understood is a `bad_request`.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(params)| Self(params)).map_err(|why| bad(why.body_text()).into())
    }
}

/// How many a page holds when the client says nothing.
const DEFAULT_LIMIT: u32 = 50;

/// How many a page holds at most.
const MAX_LIMIT: u32 = 500;

/// How many a page is to hold, of the parameter `limit`.
///
/// # Errors
/// [`Code::BadRequest`] when it is not within 1 to 500.
pub(super) fn page_limit(limit: Option<u32>) -> Result<usize, Error> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(bad(format!("limit: {limit} is not within 1 to {MAX_LIMIT}")));
    }
    Ok(limit as usize)
}

/// A parameter or body that makes no sense; the message says why.
pub(super) fn bad(message: String) -> Error {
    Error::new(Code::BadRequest, message)
}

/// The number of something stored, from the path. What is no number names nothing: `not_found`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Id(pub(super) i64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = <Path<String> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        let text = path.map_err(|why| Error::new(Code::BadRequest, why.body_text()))?.0;
        let id = text.parse().ok().filter(|id| *id > 0);
        Ok(id.map(Self).ok_or_else(|| Error::new(Code::NotFound, format!("there is no number {text:?}")))?)
    }
}

/// A JSON body; what cannot be understood is a `bad_request`, what is too large a `body_too_large`.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> axum::extract::FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Failure> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(why) if why.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(Error::new(Code::BodyTooLarge, why.body_text()).into())
            }
            Err(why) => Err(bad(why.body_text()).into()),
        }
    }
}
