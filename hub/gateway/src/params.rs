//! Extractors for requests: query parameters, numbers in the path, JSON bodies.

use axum::Json;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use hub_base::error::{Code, Error};
use serde::de::DeserializeOwned;

use crate::json::Failure;

/// Query parameters. Invalid ones are a `bad_request`.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(params)| Self(params)).map_err(|why| bad(why.body_text()).into())
    }
}

/// Entries in a page if the client does not set `limit`.
const DEFAULT_LIMIT: u32 = 50;

/// Most entries in a page.
const MAX_LIMIT: u32 = 500;

/// Number of entries in a page, from the parameter `limit`.
///
/// # Errors
/// [`Code::BadRequest`] if it is not between 1 and 500.
pub(super) fn page_limit(limit: Option<u32>) -> Result<usize, Error> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(bad(format!("limit: {limit} is not between 1 and {MAX_LIMIT}")));
    }
    Ok(limit as usize)
}

/// The error for an invalid parameter or body.
pub(super) fn bad(message: String) -> Error {
    Error::new(Code::BadRequest, message)
}

/// The error for a word that is not one of `expected`, which names all of them: "json or csv".
pub(super) fn bad_word(what: &str, word: &str, expected: &str) -> Error {
    bad(format!("unknown {what} {word:?} (expected {expected})"))
}

/// The error for a cursor that no answer contained.
pub(super) fn bad_cursor(cursor: &str) -> Error {
    bad(format!("invalid cursor {cursor:?}: send `next_cursor` of the previous page unchanged"))
}

/// The number in a cursor, where a list is in the order of numbers.
///
/// # Errors
/// [`Code::BadRequest`] if it is not a number.
pub(super) fn number_of(cursor: Option<String>) -> Result<Option<i64>, Error> {
    cursor.map(|text| text.parse().map_err(|_| bad_cursor(&text))).transpose()
}

/// The number of a stored entry, from the path. Text that is not a positive number is a `not_found`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Id(pub(super) i64);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = <Path<String> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        let text = path.map_err(|why| Error::new(Code::BadRequest, why.body_text()))?.0;
        let id = text.parse().ok().filter(|id| *id > 0);
        Ok(id.map(Self).ok_or_else(|| Error::new(Code::NotFound, format!("nothing has the number {text:?}")))?)
    }
}

/// A JSON body. An invalid body is a `bad_request`, one that is too large a `body_too_large`.
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
