//! Extractors for requests: query parameters, numbers in the path, JSON bodies.

use std::fmt;
use std::marker::PhantomData;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use daemon::config::nearest;
use daemon::serde_words;
use hub_base::error::{Code, Error};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::json::Failure;
use crate::limits::MAX_BODY_BYTES;

/// Query parameters. Invalid ones are a `bad_request`.
#[derive(Debug)]
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        let wrong = |why: QueryRejection| bad(query_words(&why.body_text(), parts.uri.query().unwrap_or_default()));
        query.map(|Query(params)| Self(params)).map_err(|why| wrong(why).into())
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
        let text = path.map_err(|_| bad("the number in the path is not UTF-8".into()))?.0;
        let id = text.parse().ok().filter(|id| *id > 0);
        Ok(id.map(Self).ok_or_else(|| Error::new(Code::NotFound, format!("{text:?} is not the number of an entry")))?)
    }
}

/// A text in the path, such as a name. Text that is not UTF-8 is a `bad_request`.
#[derive(Debug)]
pub(super) struct Text(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Text {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let path = <Path<String> as FromRequestParts<S>>::from_request_parts(parts, state).await;
        Ok(Self(path.map_err(|_| bad("the name in the path is not UTF-8 (percent-encoded)".into()))?.0))
    }
}

/// A JSON body, which is an object. An invalid body is a `bad_request`, one that is too large a `body_too_large`.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

/// A JSON object. serde would also take an array of the values, in the order of the fields in the code.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(OBJECT)
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// What serde says that it expected if a body is something else.
const OBJECT: &str = "a JSON object";

impl<T: DeserializeOwned, S: Send + Sync> axum::extract::FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Failure> {
        match Json::<Object<T>>::from_request(request, state).await {
            Ok(Json(Object(body))) => Ok(Self(body)),
            Err(why) if why.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let message = format!("the body is larger than {} KiB", MAX_BODY_BYTES >> 10);
                Err(Error::new(Code::BodyTooLarge, message).into())
            }
            Err(JsonRejection::MissingJsonContentType(_)) => {
                Err(bad("send the body as JSON, with the header `Content-Type: application/json`".into()).into())
            }
            Err(why) => Err(bad(body_words(&why.body_text())).into()),
        }
    }
}

/// What is wrong with a query, from axum's message.
fn query_words(message: &str, query: &str) -> String {
    let why = message.strip_prefix("Failed to deserialize query string: ").unwrap_or(message);
    let (name, why) = split_path(why);
    if let Some(words) = key_words(why, "parameter") {
        return words;
    }
    // The value as it was sent, percent-encoded or not.
    let given = name.and_then(|name| {
        query.split('&').find_map(|part| part.split_once('=').filter(|(key, _)| *key == name)).map(|(_, value)| value)
    });
    let words = serde_words::of_value(why, given.map(|text| format!("{text:?}")).as_deref());
    name.map_or_else(|| words.clone(), |name| format!("{name}: {words}"))
}

/// What is wrong with a JSON body, from axum's message.
fn body_words(message: &str) -> String {
    let place = |text: &str| match text.rsplit_once(" at line ") {
        Some((why, place)) => (why.to_owned(), format!(" (line {})", place.replace(" column ", ", column "))),
        None => (text.to_owned(), String::new()),
    };
    if let Some(why) = message.strip_prefix("Failed to parse the request body as JSON: ") {
        let (why, place) = place(why);
        let (_, why) = split_path(&why);
        return format!("the body is not JSON{place}: {why}");
    }
    let why = message.strip_prefix("Failed to deserialize the JSON body into the target type: ").unwrap_or(message);
    let (why, place) = place(why);
    let (name, why) = split_path(&why);
    if why.ends_with(&format!(", expected {OBJECT}")) {
        return format!("the body must be {OBJECT}, such as {{\"key\": \"value\"}}");
    }
    let words = key_words(why, "key").unwrap_or_else(|| {
        let words = serde_words::of_value(why, None);
        name.map_or_else(|| words.clone(), |name| format!("{name}: {words}"))
    });
    words + &place
}

/// The name of a parameter or key before a message, if there is one, and the message.
fn split_path(message: &str) -> (Option<&str>, &str) {
    match message.split_once(": ") {
        Some((name, why)) if !name.contains(' ') => (Some(name), why),
        _ => (None, message),
    }
}

/// The words for a missing, unknown or repeated name, or `None` if the message is about a value.
fn key_words(why: &str, what: &str) -> Option<String> {
    let mut names = why.split('`').skip(1).step_by(2);
    let name = names.next()?;
    if why.starts_with("missing field") {
        return Some(format!("the {what} `{name}` is required"));
    }
    if why.starts_with("duplicate field") {
        return Some(format!("the {what} `{name}` is given twice"));
    }
    if !why.starts_with("unknown field") {
        return None;
    }
    let known: Vec<&str> = names.collect();
    let hint = match nearest(name, known.iter().map(|name| (*name).to_owned())) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!(" (expected {})", serde_words::any_of(&known)),
    };
    Some(format!("unknown {what} `{name}`{hint}"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body as Bytes;
    use axum::extract::{FromRequest, Request};

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Wanted {
        node: String,
        limit: Option<u32>,
        strict: Option<bool>,
    }

    async fn of_query(query: &str) -> String {
        let (mut parts, ()) = Request::builder().uri(format!("/?{query}")).body(()).unwrap().into_parts();
        message(Params::<Wanted>::from_request_parts(&mut parts, &()).await)
    }

    async fn of_body(body: &'static str) -> String {
        let request = Request::builder().header("content-type", "application/json").body(Bytes::from(body)).unwrap();
        message(Body::<Wanted>::from_request(request, &()).await)
    }

    fn message<T: fmt::Debug>(read: Result<T, Failure>) -> String {
        read.unwrap_err().message().to_owned()
    }

    #[tokio::test]
    async fn bad_parameters_are_named_with_their_values() {
        for (query, words) in [
            ("node=a&limit=x", "limit: \"x\" is not a whole number"),
            ("node=a&limit=", "limit: \"\" is not a whole number"),
            ("node=a&limit=-1", "limit: \"-1\" is not a whole number"),
            ("node=a&limit=99999999999", "limit: \"99999999999\" is too large"),
            ("node=a&strict=perhaps", "strict: \"perhaps\" is neither true nor false"),
            ("", "the parameter `node` is required"),
            ("node=a&node=b", "the parameter `node` is given twice"),
            ("node=a&lmit=5", "unknown parameter `lmit`; did you mean `limit`?"),
            ("node=a&colour=red", "unknown parameter `colour` (expected node, limit or strict)"),
        ] {
            assert_eq!(of_query(query).await, words, "{query}");
        }
    }

    #[tokio::test]
    async fn bad_bodies_say_what_is_wrong_and_where() {
        for (body, words) in [
            ("x", "the body is not JSON (line 1, column 1): expected value"),
            ("{}", "the key `node` is required (line 1, column 2)"),
            (r#"{"node":5}"#, "node: 5 is not a text; write it in quotes (line 1, column 9)"),
            (r#"{"node":"a","limit":-1}"#, "limit: -1 is not a whole number of 0 or more (line 1, column 22)"),
            ("null", "the body must be a JSON object, such as {\"key\": \"value\"}"),
            (r#"["a",null,true]"#, "the body must be a JSON object, such as {\"key\": \"value\"}"),
            (r#"{"node":"a","node":"b"}"#, "the key `node` is given twice (line 1, column 18)"),
            (r#"{"node":"a","lmit":1}"#, "unknown key `lmit`; did you mean `limit`? (line 1, column 18)"),
        ] {
            assert_eq!(of_body(body).await, words, "{body}");
        }
        let request = Request::builder().body(Bytes::from("{}")).unwrap();
        assert!(message(Body::<Wanted>::from_request(request, &()).await).starts_with("send the body as JSON"));
    }
}
