//! The cat-nodes: one shared, reconnecting channel to each, and which one hears a given cat.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use proto::cat_client::CatClient;
use proto::{
    AnalyzeCatSoundRequest, AnalyzeCatSoundResponse, CatRequest, DescribeRequest, DescribeResponse, SourceState,
};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Extensions, Request, Streaming};
use tracing::{info, warn};

use crate::config::NodeConfig;
use crate::error::{Code, Error, Who, within};
use crate::peer;

/// How long a node may take for `CallCat`. Longer than it gives the owner, so that its own answer about the owner comes
/// first.
const CALL_DEADLINE: Duration = Duration::from_secs(4);

/// How long a node may take to describe itself, and to begin a stream.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// How often a node is asked which cat it hears.
const DESCRIBE_PERIOD: Duration = Duration::from_secs(5);

/// First and longest wait before a node that did not answer is asked again.
const DESCRIBE_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How often the same failure of a node is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// The nodes of the hub, in the order of the config.
#[derive(Debug, Clone)]
pub struct Nodes {
    nodes: Arc<[Node]>,
}

/// A cat-node. Clones share its channel.
#[derive(Debug, Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    url: String,
    configured_cat: Option<String>,
    /// What the node called its cat when it was last asked.
    described_cat: Mutex<Option<String>>,
    client: CatClient<Channel>,
}

impl Nodes {
    /// The nodes of a config; nothing is connected yet. There must be at least one.
    ///
    /// # Errors
    /// When a URL is not one.
    pub fn new(configs: &[NodeConfig]) -> Result<Self, tonic::transport::Error> {
        assert!(!configs.is_empty(), "the config has a default node");
        Ok(Self { nodes: configs.iter().map(Node::new).collect::<Result<_, _>>()? })
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// The node that hears this cat: the one that is configured for it, else the one that says so, else the first, so
    /// that every name is answered.
    pub fn for_cat(&self, cat: &str) -> Node {
        let configured = || self.iter().find(|node| node.inner.configured_cat.as_deref() == Some(cat));
        let described = || {
            self.iter().find(|node| node.inner.configured_cat.is_none() && node.cat().is_some_and(|name| name == cat))
        };
        configured().or_else(described).unwrap_or(&self.nodes[0]).clone()
    }

    /// Asks each node again and again which cat it hears, until `stop`. Keeps the connections up besides, so that the
    /// first call after an outage finds one.
    pub async fn keep_known(&self, stop: &CancellationToken) {
        let known = futures_util::future::join_all(self.iter().map(Node::keep_known));
        tokio::select! {
            _ = known => {}
            () = stop.cancelled() => {}
        }
    }
}

impl Node {
    fn new(config: &NodeConfig) -> Result<Self, tonic::transport::Error> {
        Ok(Self {
            inner: Arc::new(Inner {
                url: config.url.clone(),
                configured_cat: config.cat.clone(),
                described_cat: Mutex::new(None),
                client: CatClient::new(peer::channel(&config.url)?),
            }),
        })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// The cat it hears: as configured, else as it says itself. `None`: not known (yet).
    pub fn cat(&self) -> Option<String> {
        let described = || self.inner.described_cat.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.inner.configured_cat.clone().or_else(described)
    }

    /// A client on the shared channel.
    pub fn client(&self) -> CatClient<Channel> {
        self.inner.client.clone()
    }

    /// Calls the cat; the node tells the owner.
    ///
    /// # Errors
    /// About the node, or about the owner when the node says that it could not tell it.
    pub async fn call_cat(&self, cat: String) -> Result<String, Error> {
        let mut request = Request::new(CatRequest { cat_name: cat });
        request.set_timeout(CALL_DEADLINE);
        let answer = within(Who::Node, CALL_DEADLINE, async {
            self.client().call_cat(request).await.map_err(|status| {
                // An answer, not a broken connection: the contract says that these two are about the owner.
                let from_node = std::error::Error::source(&status).is_none();
                match status.code() {
                    tonic::Code::Unavailable if from_node => {
                        Error::new(Code::Unavailable(Who::Owner), status.message()).into()
                    }
                    tonic::Code::DeadlineExceeded if from_node => {
                        Error::new(Code::TooSlow(Who::Owner), status.message()).into()
                    }
                    _ => status,
                }
            })
        });
        Ok(answer.await?.into_inner().cat_meaw)
    }

    /// Opens the stream of 30 messages, with the caller's metadata.
    ///
    /// # Errors
    /// As [`Error::from_status`], [`Code::TooSlow`] when the stream has not begun in time.
    pub async fn analyze_cat_sound(
        &self,
        cat: String,
        metadata: MetadataMap,
    ) -> Result<Streaming<AnalyzeCatSoundResponse>, Error> {
        let request = Request::from_parts(metadata, Extensions::default(), AnalyzeCatSoundRequest { cat_name: cat });
        // The first message is due after a second, and a node of the original sends its headers with it.
        let deadline = ANSWER_DEADLINE + Duration::from_secs(2);
        Ok(within(Who::Node, deadline, self.client().analyze_cat_sound(request)).await?.into_inner())
    }

    /// What the node says of itself now.
    ///
    /// # Errors
    /// As [`Error::from_status`].
    pub async fn describe(&self) -> Result<DescribeResponse, Error> {
        let mut request = Request::new(DescribeRequest {});
        request.set_timeout(ANSWER_DEADLINE);
        let description = within(Who::Node, ANSWER_DEADLINE, self.client().describe(request)).await?.into_inner();
        let cat = Some(description.cat_name.clone()).filter(|name| !name.is_empty());
        *self.inner.described_cat.lock().unwrap_or_else(PoisonError::into_inner) = cat;
        Ok(description)
    }

    async fn keep_known(&self) {
        let mut backoff = Backoff::new(DESCRIBE_AGAIN.0, DESCRIBE_AGAIN.1);
        let mut quiet = Quiet::new(LOG_PERIOD);
        let mut known = false;
        loop {
            let wait = match self.describe().await {
                Ok(description) => {
                    if !known {
                        info!(
                            node = self.url(),
                            cat = description.cat_name,
                            version = description.version,
                            "node found"
                        );
                    }
                    known = true;
                    backoff.reset();
                    quiet.reset();
                    DESCRIBE_PERIOD
                }
                Err(error) => {
                    known = false;
                    if let Some(held_back) = quiet.allow() {
                        warn!(node = self.url(), code = error.code.as_str(), %error, held_back, "node does not answer");
                    }
                    backoff.next_wait()
                }
            };
            tokio::time::sleep(wait).await;
        }
    }
}

/// The word for a source's state in the API.
pub fn state_word(state: SourceState) -> &'static str {
    match state {
        SourceState::Unspecified => "unknown",
        SourceState::Starting => "starting",
        SourceState::Capturing => "capturing",
        SourceState::Silent => "silent",
        SourceState::NoDevice => "no_device",
        SourceState::Ended => "ended",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(configs: &[(Option<&str>, &str)]) -> Nodes {
        let configs: Vec<_> =
            configs.iter().map(|(cat, url)| NodeConfig { cat: cat.map(Into::into), url: (*url).to_owned() }).collect();
        Nodes::new(&configs).unwrap()
    }

    fn describe_as(nodes: &Nodes, url: &str, cat: &str) {
        let node = nodes.iter().find(|node| node.url() == url).unwrap();
        *node.inner.described_cat.lock().unwrap() = Some(cat.to_owned());
    }

    #[tokio::test]
    async fn name_goes_to_the_node_that_is_configured_for_it() {
        let nodes = nodes(&[(Some("Tom"), "http://one:1"), (Some("Ada"), "http://two:1")]);
        assert_eq!(nodes.for_cat("Ada").url(), "http://two:1");
        assert_eq!(nodes.for_cat("Tom").url(), "http://one:1");
    }

    #[tokio::test]
    async fn name_goes_to_the_node_that_says_it_has_it() {
        let nodes = nodes(&[(None, "http://one:1"), (None, "http://two:1")]);
        assert_eq!(nodes.for_cat("Ada").url(), "http://one:1");
        describe_as(&nodes, "http://two:1", "Ada");
        assert_eq!(nodes.for_cat("Ada").url(), "http://two:1");
    }

    #[tokio::test]
    async fn any_other_name_goes_to_the_first_node() {
        let nodes = nodes(&[(Some("Tom"), "http://one:1"), (Some("Ada"), "http://two:1")]);
        assert_eq!(nodes.for_cat("Nobody").url(), "http://one:1");
        assert_eq!(nodes.for_cat("").url(), "http://one:1");
    }

    #[tokio::test]
    async fn config_counts_for_more_than_what_a_node_says() {
        let nodes = nodes(&[(None, "http://one:1"), (Some("Ada"), "http://two:1")]);
        describe_as(&nodes, "http://one:1", "Ada");
        describe_as(&nodes, "http://two:1", "Tom");
        assert_eq!(nodes.for_cat("Ada").url(), "http://two:1");
        assert_eq!(nodes.for_cat("Tom").url(), "http://one:1");
    }
}
