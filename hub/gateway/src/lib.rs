//! The HTTP gateway: the routes of the original system, the API and the page. The only crate that uses axum.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use hub_base::error::{Code, Error};
use json::Failure;
use limits::MAX_BODY_BYTES;
use utoipa_axum::router::OpenApiRouter;

mod analyses;
mod app;
mod backup;
mod ca;
mod caller;
mod config;
mod contract;
mod events;
mod gate;
mod headers;
mod index;
mod json;
mod level;
mod limits;
mod listeners;
mod listening;
mod live_audio;
mod metrics;
mod nodes;
mod notices;
mod openapi;
mod origin;
mod page;
mod params;
mod people;
mod privacy;
mod privacy_settings;
mod probes;
mod proxies;
mod score_preview;
mod search;
mod server;
mod stream;
pub mod tls;
mod vocalisation;

pub use app::App;
pub use caller::{Caller, came_through_proxy};
pub use config::{GatewayConfig, Loopback, PageConfig};
pub use limits::Limits;
pub use origin::Hosts;
pub use privacy_settings::PrivacySettings;
pub use proxies::Proxies;
pub use server::{Entrance, serve};

/// Routes that are not in the OpenAPI document. Their requests are counted by name too.
const UNDOCUMENTED_ROUTES: [&str; 5] =
    ["/", "/page/{name}", "/api/v1/openapi.json", tls::AUTHORITY_PATH, ca::CODE_PATH];

/// The gateway with all its routes.
pub fn router(app: App) -> Router {
    let (routes, mut api) = api().split_for_parts();
    openapi::describe_answers(&mut api);
    let documented = api.paths.paths.keys().cloned();
    let streams = vec![("news", app.limits.updates.clone()), ("sound", app.limits.live_audio.clone())];
    app.metrics.set_gateway(documented.chain(UNDOCUMENTED_ROUTES.map(str::to_owned)), streams);
    let count = metrics::Count::new(app.metrics.clone());
    let app = Arc::new(app);
    routes
        .merge(index::routes())
        .merge(ca::routes())
        .merge(page::routes())
        .merge(openapi::routes(&api))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), gate::check))
        .layer(axum::middleware::from_fn_with_state(app.hosts.clone(), origin::check))
        .layer(axum::middleware::from_fn(caller::redirect))
        .layer(axum::middleware::from_fn_with_state(app.hosts.clone(), origin::check_host))
        .layer(axum::middleware::from_fn_with_state(app.proxies.clone(), caller::identify))
        // A page that lets its name resolve to the hub can send `X-Forwarded-Host` through a proxy: its `Host` counts
        // too.
        .layer(axum::middleware::from_fn_with_state(app.hosts.clone(), origin::check_host))
        .layer(count)
        .layer(axum::middleware::map_response(json::with_nosniff))
        .with_state(app)
}

/// The routes that the OpenAPI document describes.
fn api() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::document())
        .merge(contract::routes())
        .merge(analyses::routes())
        .merge(events::routes())
        .merge(stream::routes())
        .merge(listening::routes())
        .merge(nodes::routes())
        .merge(score_preview::routes())
        .merge(notices::routes())
        .merge(backup::routes())
        .merge(live_audio::routes())
        .merge(people::routes())
        .merge(privacy::routes())
        .merge(probes::routes())
        .merge(metrics::routes())
}

async fn not_found(uri: Uri) -> Failure {
    Error::new(Code::NotFound, format!("no such path: {}", uri.path())).into()
}

async fn method_not_allowed(method: Method, uri: Uri) -> Failure {
    Error::new(
        Code::MethodNotAllowed,
        format!("{} does not support {method}; the header `Allow` lists its methods", uri.path()),
    )
    .into()
}
