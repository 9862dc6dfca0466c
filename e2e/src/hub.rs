//! A running `hub`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::binaries::binaries;
use crate::daemon::Daemon;
use crate::http::{self, Answer};
use crate::ports;
use crate::wait::{SOON, until};

/// The addresses that the roles of a hub listen on.
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
    /// Addresses with free ports.
    pub fn free() -> Self {
        Self { http: ports::free(), owner: ports::free(), dog: ports::free(), analysis: ports::free() }
    }
}

/// Name of a hub's config file, in its data folder.
const CONFIG: &str = "hub.toml";

/// Fewest answers, and the pause between two, of [`Hub::asked_during`].
const LEAST_ANSWERS: usize = 6;
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Where and how a hub runs, beyond its config.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Command that starts the program: see [`Daemon::start_within`].
    pub wrapper: Vec<String>,
    /// Folder in which the data folder is made. `None`: the system's folder for temporary files.
    pub data_parent: Option<PathBuf>,
    /// Whether the hub looks for more nodes by mDNS.
    pub discover: bool,
}

/// A hub with all roles.
#[derive(Debug)]
pub struct Hub {
    /// The process.
    pub daemon: Daemon,
    /// The addresses that it listens on.
    pub at: Addresses,
    nodes: Vec<(String, String)>,
    surroundings: Surroundings,
    data: Arc<tempfile::TempDir>,
}

impl Hub {
    /// Starts a hub with these nodes (name, URL) on free ports, with an empty data folder, and waits until it serves.
    ///
    /// # Panics
    /// If it does not serve.
    pub async fn start(nodes: &[(&str, &str)]) -> Self {
        Self::start_at(Addresses::free(), nodes).await
    }

    /// As [`Hub::start`], at these addresses.
    ///
    /// # Panics
    /// If it does not serve.
    pub async fn start_at(at: Addresses, nodes: &[(&str, &str)]) -> Self {
        Self::start_with_config(at, nodes, "").await
    }

    /// As [`Hub::start_at`], with this config file.
    ///
    /// # Panics
    /// If it does not serve.
    pub async fn start_with_config(at: Addresses, nodes: &[(&str, &str)], toml: &str) -> Self {
        Self::start_in(Surroundings::default(), at, nodes, toml).await
    }

    /// As [`Hub::start`], without the owner role: the dog and the nodes notify the owner at `owner_url`.
    ///
    /// # Panics
    /// If it does not serve.
    pub async fn start_without_owner(nodes: &[(&str, &str)], owner_url: &str) -> Self {
        let toml = format!("only = [\"dog\", \"analysis\", \"gateway\"]\nowner_url = {owner_url:?}\n");
        Self::start_with_config(Addresses::free(), nodes, &toml).await
    }

    /// As [`Hub::start`], with a search for more nodes by mDNS.
    ///
    /// # Panics
    /// If it does not serve.
    pub async fn start_discovering(nodes: &[(&str, &str)]) -> Self {
        let surroundings = Surroundings { discover: true, ..Surroundings::default() };
        Self::start_in(surroundings, Addresses::free(), nodes, "").await
    }

    /// As [`Hub::start_with_config`], in these surroundings.
    ///
    /// # Panics
    /// If it does not serve.
    pub async fn start_in(surroundings: Surroundings, at: Addresses, nodes: &[(&str, &str)], toml: &str) -> Self {
        let data = data_with_config(surroundings.data_parent.as_deref(), toml);
        Self::start_with(at, owned(nodes), surroundings, data).await
    }

    /// Kills this hub and starts another with the same addresses, nodes and data folder.
    ///
    /// # Panics
    /// If the new hub does not serve.
    pub async fn restart(mut self) -> Self {
        self.daemon.kill();
        Self::start_with(self.at, self.nodes.clone(), self.surroundings.clone(), Arc::clone(&self.data)).await
    }

    /// As [`Hub::restart`], with other nodes.
    ///
    /// # Panics
    /// If the new hub does not serve.
    pub async fn restart_with(mut self, nodes: &[(&str, &str)]) -> Self {
        self.nodes = owned(nodes);
        self.restart().await
    }

    async fn start_with(
        at: Addresses,
        nodes: Vec<(String, String)>,
        surroundings: Surroundings,
        data: Arc<tempfile::TempDir>,
    ) -> Self {
        let mut arguments = vec!["serve".to_owned()];
        if !surroundings.discover {
            // The network may have nodes of other tests, or of the developer.
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
        let daemon = Daemon::start_within(&surroundings.wrapper, "hub", &binaries().hub, &arguments);
        let hub = Self { daemon, at, nodes, surroundings, data };
        until(SOON, "the hub is healthy", || async {
            http::try_exchange(at.http, "GET", "/healthz").await.ok().filter(|answer| answer.status == 200)
        })
        .await;
        hub
    }

    /// The URL of the hub's owner service.
    pub fn owner_url(&self) -> String {
        format!("http://{}", self.at.owner)
    }

    /// The data folder of the hub.
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

    /// Asks `/readyz` for as long as `work` takes, and at least six times. Returns how long the answers took, sorted,
    /// and what the work returned.
    ///
    /// # Panics
    /// If an answer takes longer than half a minute, or is neither 200 nor 503.
    pub async fn asked_during<T>(&self, work: impl Future<Output = T>) -> (Vec<Duration>, T) {
        let mut took = Vec::new();
        let done = AtomicBool::new(false);
        let work = async {
            let result = work.await;
            done.store(true, Ordering::Relaxed);
            result
        };
        let ask = async {
            while took.len() < LEAST_ANSWERS || !done.load(Ordering::Relaxed) {
                let start = Instant::now();
                let answer = self.get("/readyz").await;
                // On a busy machine an attack may delay a node so much that the hub calls it away for a moment.
                assert!([200, 503].contains(&answer.status), "{}", answer.text());
                took.push(start.elapsed());
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        let (result, ()) = tokio::join!(work, ask);
        took.sort();
        (took, result)
    }

    /// Starts an analysis as `curl /analyze/NAME` does. Returns the path of the stored analysis.
    ///
    /// # Panics
    /// If the answer is not what the contract says.
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

    /// Waits until a stored analysis has ended, and returns it.
    ///
    /// # Panics
    /// If it has not ended after `deadline`.
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

/// A data folder with nothing but the config file.
fn data_with_config(parent: Option<&Path>, toml: &str) -> Arc<tempfile::TempDir> {
    let data = match parent {
        Some(parent) => tempfile::tempdir_in(parent),
        None => tempfile::tempdir(),
    };
    let data = data.expect("a temporary folder");
    std::fs::write(data.path().join(CONFIG), toml).expect("a config file");
    Arc::new(data)
}

fn owned(nodes: &[(&str, &str)]) -> Vec<(String, String)> {
    nodes.iter().map(|(name, url)| ((*name).to_owned(), (*url).to_owned())).collect()
}
