//! A running `hub`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::binaries::binaries;
use crate::daemon::Daemon;
use crate::http::{self, Answer};
use crate::ports;
use crate::wait::{SOON, until};

/// Where the roles of a hub listen.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The HTTP gateway.
    pub http: SocketAddr,
    /// The owner.
    pub owner: SocketAddr,
    /// The dog.
    pub dog: SocketAddr,
    /// The cat analysis.
    pub analysis: SocketAddr,
}

impl Addresses {
    /// Free ports.
    pub fn free() -> Self {
        Self { http: ports::free(), owner: ports::free(), dog: ports::free(), analysis: ports::free() }
    }
}

/// The config file of a hub, beside its store.
const CONFIG: &str = "hub.toml";

/// A hub with all roles.
#[derive(Debug)]
pub struct Hub {
    /// The process.
    pub daemon: Daemon,
    /// Where it listens.
    pub at: Addresses,
    nodes: Vec<(String, String)>,
    discover: bool,
    data: Arc<tempfile::TempDir>,
}

impl Hub {
    /// Starts a hub with nodes (name, URL) on free ports and a store of its own, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(nodes: &[(&str, &str)]) -> Self {
        Self::start_at(Addresses::free(), nodes).await
    }

    /// As [`Hub::start`], at given addresses.
    ///
    /// # Panics
    /// When it does not serve.
    pub async fn start_at(at: Addresses, nodes: &[(&str, &str)]) -> Self {
        Self::start_with_config(at, nodes, "").await
    }

    /// As [`Hub::start_at`], with a config file of this TOML.
    ///
    /// # Panics
    /// When it does not serve.
    pub async fn start_with_config(at: Addresses, nodes: &[(&str, &str)], toml: &str) -> Self {
        Self::start_with(at, owned(nodes), false, data_with_config(toml)).await
    }

    /// As [`Hub::start`], and it looks for more nodes by mDNS.
    ///
    /// # Panics
    /// When it does not serve.
    pub async fn start_discovering(nodes: &[(&str, &str)]) -> Self {
        Self::start_with(Addresses::free(), owned(nodes), true, data_with_config("")).await
    }

    /// Starts a hub in the place of this one, once that is gone: same addresses, nodes and store.
    ///
    /// # Panics
    /// When it does not serve.
    pub async fn restart(mut self) -> Self {
        self.daemon.kill();
        Self::start_with(self.at, self.nodes.clone(), self.discover, Arc::clone(&self.data)).await
    }

    async fn start_with(
        at: Addresses,
        nodes: Vec<(String, String)>,
        discover: bool,
        data: Arc<tempfile::TempDir>,
    ) -> Self {
        let mut arguments = vec!["serve".to_owned()];
        if !discover {
            // Other tests, or nodes of the developer, may be on the same network.
            arguments.push("--discover=false".to_owned());
        }
        for (flag, address) in
            [("--http", at.http), ("--owner", at.owner), ("--dog", at.dog), ("--analysis", at.analysis)]
        {
            arguments.extend([flag.to_owned(), address.to_string()]);
        }
        for (name, url) in &nodes {
            arguments.extend(["--node".to_owned(), format!("{name}={url}")]);
        }
        arguments.extend(["--data-dir".to_owned(), data.path().display().to_string()]);
        arguments.extend(["--config".to_owned(), data.path().join(CONFIG).display().to_string()]);
        let daemon = Daemon::start("hub", &binaries().hub, &arguments);
        let hub = Self { daemon, at, nodes, discover, data };
        until(SOON, "the hub is healthy", || async {
            http::try_exchange(at.http, "GET", "/healthz").await.ok().filter(|answer| answer.status == 200)
        })
        .await;
        hub
    }

    /// The URL of its owner.
    pub fn owner_url(&self) -> String {
        format!("http://{}", self.at.owner)
    }

    /// The folder of its store.
    pub fn data_folder(&self) -> &Path {
        self.data.path()
    }

    /// GETs a path of the gateway.
    pub async fn get(&self, path: &str) -> Answer {
        http::get(self.at.http, path).await
    }

    /// PUTs JSON to a path of the gateway.
    pub async fn put_json(&self, path: &str, body: &Value) -> Answer {
        http::put_json(self.at.http, path, body).await
    }

    /// Starts an analysis as `curl /analyze/NAME` does, and gives the path of the stored analysis.
    ///
    /// # Panics
    /// When the answer is not that of the contract.
    pub async fn analyze(&self, name: &str) -> String {
        let answer = self.get(&format!("/analyze/{name}")).await;
        assert_eq!(
            (answer.status, answer.text()),
            (200, format!("{{\"result\":\"Analyzing {name} ...\"}}\n").as_str())
        );
        let location = answer.header("location").expect("a Location header");
        assert!(location.starts_with("/api/v1/analyses/"), "{location}");
        location.to_owned()
    }

    /// Waits until a stored analysis has ended, and gives it.
    ///
    /// # Panics
    /// When it has not ended after `deadline`.
    pub async fn ended(&self, path: &str, deadline: Duration) -> Value {
        until(deadline, &format!("{path} has ended"), || async {
            let answer = self.get(path).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let analysis = answer.json();
            (analysis["status"] != "running").then_some(analysis)
        })
        .await
    }
}

/// A store that is empty but for the config.
fn data_with_config(toml: &str) -> Arc<tempfile::TempDir> {
    let data = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(data.path().join(CONFIG), toml).expect("a config file");
    Arc::new(data)
}

fn owned(nodes: &[(&str, &str)]) -> Vec<(String, String)> {
    nodes.iter().map(|(name, url)| ((*name).to_owned(), (*url).to_owned())).collect()
}
