//! The metrics page, `/metrics`. Every HTTP and gRPC port of the hub serves it, so that roles in processes of their own
//! can be scraped too.

mod nodes;
mod parts;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use daemon::metrics::{Call, CallFamilies, Calls, Meter, Page, build_info, process};
use hub_base::places::Places;
use hub_listen::Live;
use hub_listen::analysis::AnalysisService;
use hub_nodes::Nodes;
use hub_owner::Outbox;
use hub_owner::mqtt::Mqtt;
use hub_store::Store;
use hub_store::backup::Backups;
use hub_store::clips::Clips;

use crate::condition::HealthConfig;

/// The gRPC calls that are counted by name. All others count as one.
const METHODS: [&str; 5] = [
    "proto.Owner/Notify",
    "proto.dog/CallDog",
    "proto.catAnalysis/AnalyzeSound",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
];

const RPCS: CallFamilies = CallFamilies {
    ended: ("meowlink_hub_rpcs_total", "Calls over gRPC that ended, by method and gRPC code."),
    latency: ("meowlink_hub_rpc_seconds", "Time from a call to the beginning of its answer."),
    under_way: ("meowlink_hub_rpcs_in_flight", "Calls over gRPC under way."),
};

const HTTP: CallFamilies = CallFamilies {
    ended: ("meowlink_hub_http_requests_total", "HTTP requests that ended, by route and status."),
    latency: ("meowlink_hub_http_request_seconds", "Time from the head of a request to that of its answer."),
    under_way: ("meowlink_hub_http_requests_in_flight", "HTTP requests whose handler is at work."),
};

/// The hub's own counts, and the parts that a scrape reads. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    started: Instant,
    rpcs: Arc<Calls>,
    gateway: OnceLock<GatewayParts>,
    parts: OnceLock<Parts>,
}

/// What the gateway counts.
#[derive(Debug)]
struct GatewayParts {
    requests: Calls,
    streams: Vec<(&'static str, Places)>,
}

/// The parts of the hub that a scrape reads, if this process has them.
#[derive(Debug)]
pub struct Parts {
    /// The nodes. `None`: this process does not use them.
    pub nodes: Option<Nodes>,
    /// Live listening.
    pub live: Option<Live>,
    /// The store.
    pub store: Option<Store>,
    /// The clips. They need the store.
    pub clips: Option<Clips>,
    /// Backups. `None`: another process makes them.
    pub backups: Option<Backups>,
    /// Analyses on demand.
    pub analyses: Option<AnalysisService>,
    /// Notifications to owners. `None`: there are no owners.
    pub outbox: Option<Outbox>,
    /// The connection to the MQTT broker. `None`: none is configured.
    pub mqtt: Option<Mqtt>,
    /// When a node counts as deaf.
    pub health: HealthConfig,
}

impl Default for Metrics {
    fn default() -> Self {
        let rpcs = Arc::new(Calls::new(METHODS));
        let (gateway, parts) = (OnceLock::new(), OnceLock::new());
        Self { inner: Arc::new(Inner { started: Instant::now(), rpcs, gateway, parts }) }
    }
}

impl Metrics {
    /// Counts the calls of a gRPC port, and serves the page on that port to plain HTTP.
    pub fn meter(&self) -> Meter {
        let metrics = self.clone();
        let render = move || {
            let metrics = metrics.clone();
            Box::pin(async move { metrics.page().await }) as _
        };
        Meter::new(Arc::clone(&self.inner.rpcs), Arc::new(render))
    }

    /// Sets what a scrape reads. Only the first call has an effect.
    pub fn look_at(&self, parts: Parts) {
        // An error means that this is not the first call.
        let _ = self.inner.parts.set(parts);
    }

    /// Sets the routes of the gateway, and its streams by kind. Requests for other routes count as one. Only the first
    /// call has an effect.
    pub fn set_gateway(&self, routes: impl IntoIterator<Item = String>, streams: Vec<(&'static str, Places)>) {
        // As above.
        let _ = self.inner.gateway.set(GatewayParts { requests: Calls::new(routes), streams });
    }

    /// Starts to count a request to a route. `None`: this process has no gateway.
    pub fn http_request(&self, route: &str) -> Option<Call> {
        Some(self.inner.gateway.get()?.requests.begin(route, "given_up"))
    }

    /// Renders the page.
    pub async fn page(&self) -> String {
        let mut page = Page::default();
        build_info(&mut page, "meowlink_hub_build_info", env!("CARGO_PKG_VERSION"));
        page.gauge("meowlink_hub_uptime_seconds", "Time since the hub started.")
            .value(self.inner.started.elapsed().as_secs_f64());
        if let Some(parts) = self.inner.parts.get() {
            let trouble = match &parts.store {
                Some(store) => store.check().await.err().map(|error| error.to_string()),
                None => None,
            };
            if let Some(known) = &parts.nodes {
                nodes::write(&mut page, known, parts.live.as_ref(), &parts.health, trouble.as_deref());
            }
            if parts.store.is_some() {
                page.gauge("meowlink_hub_store_writable", "1 while the database and its folder accept writes, else 0.")
                    .value(f64::from(u8::from(trouble.is_none())));
            }
            if let Some(live) = &parts.live {
                parts::queues(&mut page, live);
            }
            if let Some(analyses) = &parts.analyses {
                parts::analyses(&mut page, analyses);
            }
            parts::notices(&mut page, parts.store.as_ref(), parts.outbox.as_ref()).await;
            if let Some(mqtt) = &parts.mqtt {
                page.gauge("meowlink_hub_mqtt_connected", "1 while the MQTT broker is connected; absent without one.")
                    .value(f64::from(u8::from(mqtt.is_connected())));
            }
            if let (Some(store), Some(clips)) = (&parts.store, &parts.clips) {
                parts::store(&mut page, store);
                parts::clips(&mut page, store, clips).await;
            }
            if let Some(backups) = &parts.backups {
                parts::backups(&mut page, backups).await;
            }
        }
        if let Some(gateway) = self.inner.gateway.get() {
            Calls::write(&mut page, &HTTP, "route", &[(&[], &gateway.requests)]);
            let mut family = page
                .gauge("meowlink_hub_streams", "Open streams, by kind: news (live updates) and sound (live audio).");
            for (kind, places) in &gateway.streams {
                family.with(&[("kind", kind)], places.taken() as f64);
            }
        }
        Calls::write(&mut page, &RPCS, "method", &[(&[], &self.inner.rpcs)]);
        process(&mut page);
        page.into_text()
    }
}
