//! The HTTP gateway: the routes of the original system byte for byte, and the API beside them. The only place that knows
//! axum.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, Uri};
use axum::response::{IntoResponse, Response};
use daemon::shutdown::CancellationToken;
use proto::cat_analysis_client::CatAnalysisClient;
use proto::dog_client::DogClient;
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;

use hub_base::error::{Code, Error};
use hub_base::peer::Peer;
use hub_base::places::Places;
use hub_listen::Live;
use hub_nodes::Nodes;
use hub_owner::Outbox;
use hub_owner::mqtt::Mqtt;
use hub_store::Store;
use hub_store::clips::Clips;
use hub_watch::metrics::Metrics;
use hub_watch::readiness::Checks;
use problem::Failure;

mod analyses;
mod contract;
mod events;
mod health;
mod index;
mod live_audio;
mod metrics;
mod nodes;
mod notices;
mod openapi;
mod origin;
mod page;
mod problem;
mod server;
mod stream;

pub use origin::Hosts;
pub use page::PageConfig;
pub use server::serve;

/// Longest body that the gateway takes, in bytes. Longer ones get 413.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Routes that the OpenAPI document leaves out. They are counted by name all the same.
const UNDOCUMENTED_ROUTES: [&str; 3] = ["/", "/page/{name}", "/api/v1/openapi.json"];

/// What the handlers work with.
#[derive(Debug)]
pub struct App {
    /// The cat-nodes.
    pub nodes: Nodes,
    /// The dog, here or elsewhere.
    pub dog: DogClient<Peer>,
    /// The analysis, here or elsewhere.
    pub analysis: CatAnalysisClient<Peer>,
    /// What was stored.
    pub store: Store,
    /// The sound of what was stored.
    pub clips: Clips,
    /// What is going on. `None`: this process does not listen.
    pub live: Option<Live>,
    /// What owners are told. `None`: there are no owners.
    pub outbox: Option<Outbox>,
    /// The connection to the broker. `None`: this process has none.
    pub mqtt: Option<Mqtt>,
    /// Ends what would go on for ever.
    pub stop: CancellationToken,
    /// What the page may do.
    pub page: PageConfig,
    /// What the hub may be called.
    pub hosts: Hosts,
    /// What `/readyz` looks at.
    pub checks: Checks,
    /// What `/metrics` says.
    pub metrics: Metrics,
    /// How many clients may do what takes long.
    pub limits: Limits,
}

/// What only a few clients may do at the same time. Clones share the places.
#[derive(Debug, Clone)]
pub struct Limits {
    news: Places,
    sound: Places,
    drawings: Places,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            news: Places::new(stream::MAX_STREAMS),
            sound: Places::new(live_audio::MAX_LISTENERS),
            drawings: Places::new(events::MAX_DRAWINGS),
        }
    }
}

/// The routes.
pub fn router(app: App) -> Router {
    let (routes, api) = api().split_for_parts();
    let documented = api.paths.paths.keys().cloned();
    let streams = vec![("news", app.limits.news.clone()), ("sound", app.limits.sound.clone())];
    app.metrics.set_gateway(documented.chain(UNDOCUMENTED_ROUTES.map(str::to_owned)), streams);
    let count = metrics::Count::new(app.metrics.clone());
    routes
        .merge(index::routes())
        .merge(page::routes())
        .merge(openapi::routes(&api))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn(origin::check))
        .layer(axum::middleware::from_fn_with_state(app.hosts.clone(), origin::check_host))
        .layer(count)
        .with_state(Arc::new(app))
}

/// The routes that the OpenAPI document describes.
fn api() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::document())
        .merge(contract::routes())
        .merge(analyses::routes())
        .merge(events::routes())
        .merge(stream::routes())
        .merge(nodes::routes())
        .merge(notices::routes())
        .merge(live_audio::routes())
        .merge(health::routes())
        .merge(metrics::routes())
}

/// An answer of compact JSON with a newline at its end.
#[derive(Debug)]
struct Line<T>(T);

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

async fn not_found(uri: Uri) -> Failure {
    Error::new(Code::NotFound, format!("there is nothing at {}", uri.path())).into()
}

async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    Error::new(Code::MethodNotAllowed, format!("{} does not know the method {method}", uri.path())).into()
}
