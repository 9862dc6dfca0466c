//! A running `cat-node`.

use std::net::SocketAddr;
use std::path::PathBuf;

use proto::cat_client::CatClient;
use proto::{DescribeRequest, DescribeResponse};
use tonic::transport::{Channel, Endpoint};

use crate::binaries::binaries;
use crate::daemon::Daemon;
use crate::ports;
use crate::wait::{SOON, until};

/// How to start a node.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// The owner to notify.
    pub owner_url: String,
    /// The cat to listen to.
    pub cat: String,
    /// Value of `--source`.
    pub source: String,
    /// Seed of the synthetic source.
    pub seed: u64,
    /// Folder of the node's key. `None`: the node has no id.
    pub state_folder: Option<PathBuf>,
    /// Command that starts the program: see [`Daemon::start_within`].
    pub wrapper: Vec<String>,
}

impl NodeOptions {
    /// A node for Tom with a synthetic source, on a free port, that notifies this owner.
    pub fn new(owner_url: impl Into<String>) -> Self {
        let owner_url = owner_url.into();
        Self {
            listen: ports::free(),
            owner_url,
            cat: "Tom".into(),
            source: "synthetic".into(),
            seed: 1,
            state_folder: None,
            wrapper: Vec::new(),
        }
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// The process.
    pub daemon: Daemon,
    options: NodeOptions,
}

impl Node {
    /// Starts a node and waits until it answers.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn start(options: NodeOptions) -> Self {
        let seed = options.seed.to_string();
        let listen = options.listen.to_string();
        let mut arguments = vec!["serve", "--listen", &listen, "--owner", &options.owner_url];
        arguments.extend(["--cat", &options.cat, "--source", &options.source]);
        if options.source == "synthetic" {
            arguments.extend(["--seed", &seed]);
        }
        let state_folder = options.state_folder.as_ref().map(|folder| folder.display().to_string());
        if let Some(folder) = &state_folder {
            arguments.extend(["--state-dir", folder]);
        }
        if !options.listen.ip().is_loopback() {
            arguments.push("--insecure");
        }
        let daemon = Daemon::start_within(&options.wrapper, "cat-node", &binaries().cat_node, &arguments);
        let node = Self { daemon, options };
        until(SOON, "the node answers", || async { node.try_describe().await.ok() }).await;
        node
    }

    /// The address that the node listens on.
    pub fn address(&self) -> SocketAddr {
        self.options.listen
    }

    /// The URL of the node.
    pub fn url(&self) -> String {
        format!("http://{}", self.options.listen)
    }

    /// The options of the node, to start another like it.
    pub fn options(&self) -> NodeOptions {
        self.options.clone()
    }

    /// Calls `Describe`.
    ///
    /// # Panics
    /// If the node does not answer.
    pub async fn describe(&self) -> DescribeResponse {
        self.try_describe().await.expect("the node describes itself")
    }

    async fn try_describe(&self) -> Result<DescribeResponse, tonic::Status> {
        Ok(self.client().describe(DescribeRequest::default()).await?.into_inner())
    }

    /// A client, which connects at its first call.
    pub fn client(&self) -> CatClient<Channel> {
        CatClient::new(channel(&self.url()))
    }
}

/// A channel, which connects at its first call.
///
/// # Panics
/// If the text is not a valid URL.
pub fn channel(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned()).unwrap_or_else(|error| panic!("{url}: {error}")).connect_lazy()
}
