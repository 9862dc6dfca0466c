//! The cat-nodes: one shared, reconnecting channel to each, and which one hears a given cat.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use daemon::backoff::Backoff;
use daemon::metrics::Calls;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use proto::cat_client::CatClient;
use proto::{
    AnalyzeCatSoundRequest, AnalyzeCatSoundResponse, CatRequest, DescribeRequest, DescribeResponse, SourceState,
};
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Extensions, Request, Response, Status, Streaming};
use tracing::{info, warn};

use crate::address::NodeConfig;
use hub_base::MAX_NAME_BYTES;
use hub_base::error::{Code, Error, Who, within};
use hub_base::peer::{self, Announced};

/// Nodes that a hub listens to at most, those of the config among them. A further one that is found is not taken; that is
/// counted and logged.
pub const MAX_NODES: usize = 64;

/// Longest version, device or sentence of a node that is taken, in bytes of UTF-8. Longer ones are cut.
const MAX_WORD_BYTES: usize = 300;

/// How long a node may take for `CallCat`. Longer than it gives the owner, so that its own answer about the owner comes
/// first.
const CALL_DEADLINE: Duration = Duration::from_secs(4);

/// How long a node may take to describe itself, and to begin a stream.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// How often a node is asked which cat it hears.
const DESCRIBE_PERIOD: Duration = Duration::from_secs(5);

/// First and longest wait before a node that did not answer is asked again.
const DESCRIBE_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What a node said of itself is old after so long: three times [`DESCRIBE_PERIOD`].
const TOLD_HOLDS: Duration = Duration::from_secs(15);

/// The calls to a node, by their names in `/metrics`.
const METHODS: [&str; 4] = ["describe", "call_cat", "analyze_cat_sound", "listen"];

/// How often the same failure of a node is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// A boot id that a node named so long ago still counts for telling whether another is the same node: three times
/// [`DESCRIBE_PERIOD`].
const BOOT_ID_HOLDS: Duration = Duration::from_secs(15);

/// The nodes of the hub: those of the config in its order, then those that were found. One that is here stays, and keeps its
/// place: a node that is away is not forgotten. Clones share them.
#[derive(Debug, Clone)]
pub struct Nodes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nodes: watch::Sender<Vec<Node>>,
    refused: AtomicU64,
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
    /// It was found, not configured.
    discovered: bool,
    /// Where it is, when its name is one that is announced.
    announced: Announced,
    described: Mutex<Described>,
    calls: Calls,
    client: CatClient<Channel>,
}

/// What a node said of itself when it last answered.
#[derive(Debug, Default)]
struct Described {
    cat: Option<String>,
    /// With the time of the answer. `None`: it has not answered, or knows no boot ids.
    boot_id: Option<(u64, Instant)>,
    told: Option<Told>,
}

/// The part of it that others ask for.
#[derive(Debug, Clone)]
pub struct Told {
    /// When it did.
    pub at: Instant,
    /// Names its tape.
    pub boot_id: u64,
    /// Version of its program.
    pub version: String,
    /// How its source fares.
    pub state: SourceState,
    /// One sentence about that, or empty.
    pub detail: String,
}

/// There are [`MAX_NODES`] nodes already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Nodes {
    /// The nodes of a config; nothing is connected yet. There must be at least one.
    ///
    /// # Errors
    /// When a URL is not one.
    pub fn new(configs: &[NodeConfig]) -> Result<Self, tonic::transport::Error> {
        assert!(!configs.is_empty(), "the config has a default node");
        let nodes = configs.iter().map(Node::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { shared: Arc::new(Shared { nodes: watch::Sender::new(nodes), refused: AtomicU64::new(0) }) })
    }

    /// All of them, as they are now.
    pub fn iter(&self) -> impl Iterator<Item = Node> + use<> {
        self.shared.nodes.borrow().clone().into_iter()
    }

    /// Wakes when nodes are added.
    pub fn watch(&self) -> watch::Receiver<Vec<Node>> {
        self.shared.nodes.subscribe()
    }

    /// The node of that URL.
    pub fn get(&self, url: &str) -> Option<Node> {
        self.shared.nodes.borrow().iter().find(|node| node.url() == url).cloned()
    }

    /// Adds a node after the others.
    ///
    /// # Errors
    /// When there are [`MAX_NODES`].
    pub fn add(&self, node: Node) -> Result<(), Full> {
        let added = self.shared.nodes.send_if_modified(|nodes| {
            let fits = nodes.len() < MAX_NODES;
            if fits {
                nodes.push(node);
            }
            fits
        });
        if added { Ok(()) } else { Err(Full) }
    }

    /// Counts a node that was found and not taken.
    pub fn count_refused(&self) {
        self.shared.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a node was found that was not taken, for there are [`MAX_NODES`].
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// The node that this one is under another name: one that stands before it and has just answered with the same boot id.
    /// Those of the config are never taken for another.
    pub fn twin_of(&self, node: &Node) -> Option<Node> {
        let boot_id = node.boot_id().filter(|_| node.is_discovered())?;
        self.iter().take_while(|other| other.url() != node.url()).find(|other| other.boot_id() == Some(boot_id))
    }

    /// All of them, each under one name.
    pub fn distinct(&self) -> Vec<Node> {
        self.iter().filter(|node| self.twin_of(node).is_none()).collect()
    }

    /// The node that hears this cat: the one that is configured for it, else the one that says so, else the first, so
    /// that every name is answered.
    pub fn for_cat(&self, cat: &str) -> Node {
        let nodes = self.shared.nodes.borrow();
        let configured = || nodes.iter().find(|node| node.inner.configured_cat.as_deref() == Some(cat));
        let described = || {
            nodes.iter().find(|node| node.inner.configured_cat.is_none() && node.cat().is_some_and(|name| name == cat))
        };
        configured().or_else(described).unwrap_or(&nodes[0]).clone()
    }

    /// Asks each node again and again which cat it hears, until `stop`. Keeps the connections up besides, so that the
    /// first call after an outage finds one.
    pub async fn keep_known(&self, stop: &CancellationToken) {
        let mut nodes = self.watch();
        let mut known = FuturesUnordered::new();
        loop {
            let added: Vec<Node> = nodes.borrow_and_update().iter().skip(known.len()).cloned().collect();
            known.extend(added.into_iter().map(|node| async move { node.keep_known().await }));
            tokio::select! {
                _ = known.next() => {}
                _ = nodes.changed() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

impl Node {
    fn new(config: &NodeConfig) -> Result<Self, tonic::transport::Error> {
        Self::with(config.url.clone(), config.cat.clone(), false)
    }

    /// A node that was found, under the name that it keeps. Nothing is connected yet.
    ///
    /// # Errors
    /// When `url` is not one.
    pub fn discovered(url: String) -> Result<Self, tonic::transport::Error> {
        Self::with(url, None, true)
    }

    fn with(url: String, configured_cat: Option<String>, discovered: bool) -> Result<Self, tonic::transport::Error> {
        let announced = Announced::default();
        let channel = peer::channel_to_announced(&url, announced.clone())?;
        let (described, calls, client) = (Mutex::default(), Calls::new(METHODS), CatClient::new(channel));
        Ok(Self { inner: Arc::new(Inner { url, configured_cat, discovered, announced, described, calls, client }) })
    }

    /// Whether it was found, not configured.
    pub fn is_discovered(&self) -> bool {
        self.inner.discovered
    }

    /// Notes where it is now by what it announces. Counts from the next connection on. Whether that is a change.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) -> bool {
        self.inner.announced.set(addresses)
    }

    /// Where it is by its last announcement.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.inner.announced.get()
    }

    /// The boot id that it has just answered with.
    fn boot_id(&self) -> Option<u64> {
        let boot_id = self.described().boot_id;
        boot_id.filter(|(_, at)| at.elapsed() < BOOT_ID_HOLDS).map(|(boot_id, _)| boot_id)
    }

    fn described(&self) -> std::sync::MutexGuard<'_, Described> {
        self.inner.described.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// The cat it hears: as configured, else as it says itself. `None`: not known (yet).
    pub fn cat(&self) -> Option<String> {
        self.inner.configured_cat.clone().or_else(|| self.described().cat.clone())
    }

    /// What it said of itself when it last answered. `None`: it never has.
    pub fn told(&self) -> Option<Told> {
        self.described().told.clone()
    }

    /// What it said of itself just now. `None`: it does not answer.
    pub fn told_lately(&self) -> Option<Told> {
        self.told().filter(|told| told.at.elapsed() < TOLD_HOLDS)
    }

    /// The calls to it.
    pub fn calls(&self) -> &Calls {
        &self.inner.calls
    }

    /// Waits for the answer to a call, `deadline` long at most, and counts it under a name of [`METHODS`].
    pub(crate) async fn ask<T>(
        &self,
        method: &str,
        deadline: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        let mut counted = self.inner.calls.begin(method, "given_up");
        let answer = within(Who::Node, deadline, call).await;
        counted.answered();
        counted.end(answer.as_ref().map_or_else(|error| error.code.as_str(), |_| "ok"));
        Ok(answer?.into_inner())
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
        let answer = self.ask("call_cat", CALL_DEADLINE, async {
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
        Ok(answer.await?.cat_meaw)
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
        self.ask("analyze_cat_sound", deadline, self.client().analyze_cat_sound(request)).await
    }

    /// What the node says of itself now.
    ///
    /// # Errors
    /// As [`Error::from_status`].
    pub async fn describe(&self) -> Result<DescribeResponse, Error> {
        let mut request = Request::new(DescribeRequest {});
        request.set_timeout(ANSWER_DEADLINE);
        let mut description = self.ask("describe", ANSWER_DEADLINE, self.client().describe(request)).await?;
        shorten(&mut description.cat_name, MAX_NAME_BYTES);
        shorten(&mut description.version, MAX_WORD_BYTES);
        if let Some(source) = &mut description.source {
            for word in [&mut source.kind, &mut source.device, &mut source.detail] {
                shorten(word, MAX_WORD_BYTES);
            }
        }
        let source = description.source.clone().unwrap_or_default();
        let told = Some(Told {
            at: Instant::now(),
            boot_id: description.boot_id,
            version: description.version.clone(),
            state: source.state(),
            detail: source.detail,
        });
        let cat = Some(description.cat_name.clone()).filter(|name| !name.is_empty());
        let boot_id = (description.boot_id != 0).then(|| (description.boot_id, Instant::now()));
        *self.described() = Described { cat, boot_id, told };
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

/// Cuts a text of a node to so many bytes, at the end of a character: it goes into every event, and the node may be a
/// stranger's.
fn shorten(text: &mut String, most_bytes: usize) {
    let mut end = text.len().min(most_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
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
        node.described().cat = Some(cat.to_owned());
    }

    #[test]
    fn text_of_a_node_is_cut_between_characters() {
        for (text, most_bytes, left) in [("Tom", 3, "Tom"), ("Tom", 2, "To"), ("Jürgen", 2, "J"), ("", 0, "")] {
            let mut cut = text.to_owned();
            shorten(&mut cut, most_bytes);
            assert_eq!(cut, left, "{text:?} to {most_bytes}");
        }
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

    fn answer_with(node: &Node, boot_id: u64) {
        node.described().boot_id = Some((boot_id, Instant::now()));
    }

    #[tokio::test]
    async fn nodes_are_added_at_the_end_and_up_to_the_limit() {
        let nodes = nodes(&[(Some("Tom"), "http://one:1")]);
        let mut watch = nodes.watch();
        for number in 1..MAX_NODES {
            nodes.add(Node::discovered(format!("http://pi-{number}.local:1")).unwrap()).unwrap();
        }
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        assert_eq!(nodes.add(Node::discovered("http://one-more.local:1".into()).unwrap()), Err(Full));
        assert!(!watch.has_changed().unwrap());
        assert_eq!(nodes.iter().count(), MAX_NODES);
        assert_eq!(nodes.iter().next().unwrap().url(), "http://one:1");
        assert!(nodes.get("http://pi-63.local:1").is_some_and(|node| node.is_discovered()));
        describe_as(&nodes, "http://pi-9.local:1", "Ada");
        assert_eq!(nodes.for_cat("Ada").url(), "http://pi-9.local:1");
    }

    #[tokio::test]
    async fn node_with_the_boot_id_of_one_before_it_is_that_one() {
        let nodes = nodes(&[(None, "http://one:1"), (None, "http://two:1")]);
        let (one, two) = (nodes.get("http://one:1").unwrap(), nodes.get("http://two:1").unwrap());
        let found = Node::discovered("http://pi.local:1".into()).unwrap();
        assert!(nodes.twin_of(&found).is_none(), "nothing is known of either");
        answer_with(&two, 7);
        answer_with(&found, 7);
        assert_eq!(nodes.twin_of(&found).unwrap().url(), "http://two:1");
        // What is configured twice is meant.
        answer_with(&one, 7);
        assert!(nodes.twin_of(&two).is_none());
        // One that has restarted, or no longer answers, is no longer known to be the same.
        answer_with(&one, 8);
        let long_ago = Instant::now().checked_sub(BOOT_ID_HOLDS).unwrap();
        two.described().boot_id = Some((7, long_ago));
        assert!(nodes.twin_of(&found).is_none());
        // It is none of those after it.
        nodes.add(found.clone()).unwrap();
        let other = Node::discovered("http://other.local:1".into()).unwrap();
        answer_with(&other, 7);
        nodes.add(other.clone()).unwrap();
        assert!(nodes.twin_of(&found).is_none());
        assert_eq!(nodes.twin_of(&other).unwrap().url(), "http://pi.local:1");
    }
}
