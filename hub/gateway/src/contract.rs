//! The three routes of the original system. Clients compare their answers byte for byte.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::HeaderValue;
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use hub_base::MAX_NAME_BYTES;
use hub_base::error::{Code, Error, Who, within};
use hub_base::time::now_ns;
use hub_nodes::Nodes;
use proto::{AnalysisRequest, DogRequest};
use serde::Serialize;
use tonic::Request;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::params::Text;

/// Deadline of a call to the dog service. Longer than the dog's own deadline for the owner, so that the dog can report
/// a slow owner.
const DOG_DEADLINE: Duration = Duration::from_secs(4);

/// Deadline for starting an analysis.
const ANALYSIS_DEADLINE: Duration = Duration::from_secs(8);

/// The kind of animal that the owner is notified about.
const CAT: &str = "cat";

/// An analysis that began longer ago is another one with the same number.
const JUST_BEGUN: Duration = Duration::from_secs(60);

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(cat)).routes(routes!(dog)).routes(routes!(analyze))
}

/// The cat's answer.
#[derive(Debug, Serialize, ToSchema)]
struct CatAnswer {
    /// `NAME: MEEEWWWWW`
    #[serde(rename = "catMeaw")]
    #[schema(example = "Tom: MEEEWWWWW")]
    cat_meaw: String,
}

/// The dog's answer.
#[derive(Debug, Serialize, ToSchema)]
struct DogAnswer {
    /// `NAME is going to bark!`
    #[serde(rename = "dogBark")]
    #[schema(example = "Rex is going to bark!")]
    dog_bark: String,
}

/// Confirms that the analysis has started.
#[derive(Debug, Serialize, ToSchema)]
struct AnalyzeAnswer {
    /// `Analyzing NAME ...`
    #[schema(example = "Analyzing Tom ...")]
    result: String,
}

/// Calls a cat and notifies the owner service. If this process does not have the owner role, the node notifies the
/// owner service that its config names.
#[utoipa::path(
    get, path = "/cat/{name}", operation_id = "call_cat", tag = "animals",
    params(("name" = String, Path, description = "Name of the cat, percent-encoded UTF-8, at most 1024 bytes")),
    responses(
        (status = 200, body = CatAnswer),
        (status = 400, body = Problem, description = "`bad_request`: the name is not UTF-8"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 414, body = Problem, description = "`name_too_long`"),
        (status = 502, body = Problem, description = "`node_bad_answer`, `owner_bad_answer`"),
        (status = 503, body = Problem, description = "`node_unavailable`, `owner_unavailable`"),
        (status = 504, body = Problem, description = "`node_too_slow`, `owner_too_slow`"),
    )
)]
async fn cat(State(app): State<Arc<App>>, Name(name): Name) -> Result<Line<CatAnswer>, Failure> {
    let node = app.nodes.for_cat(&name);
    let called = node.call_cat(name.clone(), app.owner.is_some()).await;
    let answer = called.map_err(|error| with_those_that_wait(error, &app.nodes))?;
    // An older node notifies the owner itself, and its answer does not say otherwise.
    if answer.caller_tells_owner
        && let Some(owner) = &app.owner
    {
        owner.notify(&name, CAT).await?;
    }
    Ok(Line(CatAnswer { cat_meaw: answer.cat_meaw }))
}

/// The node that the caller means may be one that waits to be admitted.
fn with_those_that_wait(mut error: Error, nodes: &Nodes) -> Error {
    if error.code == Code::Unavailable(Who::Node) && !nodes.waiting().is_empty() {
        error.message.push_str("; nodes wait to be admitted: see hub nodes list");
    }
    error
}

/// Calls a dog. The dog notifies the owner service.
#[utoipa::path(
    get, path = "/dog/{name}", operation_id = "call_dog", tag = "animals",
    params(("name" = String, Path, description = "Name of the dog, percent-encoded UTF-8, at most 1024 bytes")),
    responses(
        (status = 200, body = DogAnswer),
        (status = 400, body = Problem, description = "`bad_request`: the name is not UTF-8"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 414, body = Problem, description = "`name_too_long`"),
        (status = 502, body = Problem, description = "`dog_bad_answer`, `owner_bad_answer`"),
        (status = 503, body = Problem, description = "`dog_unavailable`, `owner_unavailable`"),
        (status = 504, body = Problem, description = "`dog_too_slow`, `owner_too_slow`"),
    )
)]
async fn dog(State(app): State<Arc<App>>, Name(name): Name) -> Result<Line<DogAnswer>, Failure> {
    let mut request = Request::new(DogRequest { dog_name: name });
    request.set_timeout(DOG_DEADLINE);
    let answer = within(Who::Dog, DOG_DEADLINE, app.dog.clone().call_dog(request)).await?;
    Ok(Line(DogAnswer { dog_bark: answer.into_inner().dog_bark }))
}

/// Starts an analysis of a cat, which takes 30 seconds. The header `Location` has the path of the result, unless it is
/// stored by a hub with another database.
#[utoipa::path(
    get, path = "/analyze/{name}", operation_id = "analyze_cat", tag = "animals",
    params(("name" = String, Path, description = "Name of the cat, percent-encoded UTF-8, at most 1024 bytes")),
    responses(
        (status = 200, body = AnalyzeAnswer,
            headers(("Location" = String, description = "Path of the analysis: `/api/v1/analyses/ID`"))),
        (status = 400, body = Problem, description = "`bad_request`: the name is not UTF-8"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 414, body = Problem, description = "`name_too_long`"),
        (status = 429, body = Problem, description = "`too_many_analyses`: the maximum number of analyses is running"),
        (status = 502, body = Problem, description = "`analysis_bad_answer`"),
        (status = 503, body = Problem, description = "`analysis_unavailable`, `store_unavailable`, `stopping`"),
        (status = 504, body = Problem, description = "`analysis_too_slow`"),
    )
)]
async fn analyze(State(app): State<Arc<App>>, Name(name): Name) -> Result<Response, Failure> {
    let mut request = Request::new(AnalysisRequest { cat_name: name.clone() });
    request.set_timeout(ANALYSIS_DEADLINE);
    let answer = within(Who::Analysis, ANALYSIS_DEADLINE, app.analysis.clone().analyze_sound(request)).await?;
    let answer = answer.into_inner();
    let mut response = Line(AnalyzeAnswer { result: answer.result }).into_response();
    if is_stored_here(&app, answer.analysis_id, &name).await {
        let location = HeaderValue::try_from(format!("/api/v1/analyses/{}", answer.analysis_id));
        response.headers_mut().insert(LOCATION, location.expect("digits are valid in a header"));
    }
    Ok(response)
}

/// Whether `/api/v1/analyses/ID` will find the analysis that has just begun. An analysis service on another machine has
/// a database of its own, where the number belongs to another analysis.
async fn is_stored_here(app: &App, id: u64, cat: &str) -> bool {
    let Some(id) = i64::try_from(id).ok().filter(|id| *id != 0) else { return false };
    match app.store.analysis(id).await {
        Ok(Some((stored, _))) => {
            let age_ns = now_ns().saturating_sub(stored.started_at_ns).unsigned_abs();
            stored.cat == cat && u128::from(age_ns) <= JUST_BEGUN.as_nanos()
        }
        Ok(None) | Err(_) => false,
    }
}

/// The name of an animal, from the path.
struct Name(String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Text(name) = Text::from_request_parts(parts, state).await?;
        if name.len() > MAX_NAME_BYTES {
            let message = format!("the name has {} bytes; at most {MAX_NAME_BYTES} are allowed", name.len());
            return Err(Error::new(Code::NameTooLong, message).into());
        }
        Ok(Self(name))
    }
}
