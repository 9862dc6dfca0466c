//! One cat-node: the channel to it, the calls on it, and how it described itself.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use daemon::backoff::Backoff;
use daemon::call::ERROR_CODE_KEY;
use daemon::config::mask_passwords;
use daemon::identity::rotation::KeyHistory;
use daemon::identity::{self, CHALLENGE_BYTES, Fingerprint, NodeId, PublicKey};
use daemon::metrics::Calls;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use daemon::tls::TlsClient;
use hub_base::MAX_NAME_BYTES;
use hub_base::error::{Code, Error, Who, within};
use hub_base::peer;
use hub_base::route::Route;
use hub_base::text::{MAX_WORD_BYTES, clean};
use proto::cat_client::CatClient;
use proto::{
    AnalyzeCatSoundRequest, AnalyzeCatSoundResponse, CatRequest, CatResponse, DescribeRequest, DescribeResponse,
    ListenRequest, ListenResponse, SourceState,
};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Extensions, Request, Response, Status, Streaming};
use tracing::{info, warn};

use crate::address::NodeConfig;

/// Largest message of a node, in bytes. The largest are seconds of audio in `AnalyzeCatSound`, 32 KB; those of other
/// nodes may be longer.
const MAX_MESSAGE_BYTES: usize = 256 << 10;

/// How long a node may take for `CallCat`. This is longer than the node waits for the owner, so that its own answer
/// about the owner arrives first.
const CALL_DEADLINE: Duration = Duration::from_secs(4);

/// How long a node may take to describe itself and to begin a stream.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// How often a node is asked to describe itself.
const DESCRIBE_PERIOD: Duration = Duration::from_secs(5);

/// First and longest wait before a node that did not answer is asked again.
const DESCRIBE_AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// How long a description counts as recent: three times [`DESCRIBE_PERIOD`].
pub(crate) const DESCRIPTION_HOLDS: Duration = Duration::from_secs(15);

/// How long a node keeps the cat that is configured for its other name, after it was last found to be the same node.
const LENT_CAT_HOLDS: Duration = Duration::from_secs(60);

/// The names of calls to a node in `/metrics`.
const METHODS: [&str; 4] = ["describe", "call_cat", "analyze_cat_sound", "listen"];

/// Boots of a node of which the hub remembers the cat: the last event of a boot is stored when the next one answers.
const MAX_BOOTS: usize = 8;

/// How often the same failure of a node is logged.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// Why a paired node cannot be called by a hub that lost its key.
const NO_KEY: &str = "the hub has no usable key, so it cannot call its paired nodes; its log says why. Bring the key \
                      back (`identity` in the data folder) and restart the hub, or pair the node again";

/// A cat-node. Clones share its channel.
#[derive(Debug, Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    url: String,
    configured_cat: Option<String>,
    /// The cat of its other name, which is configured and gives way to this one, and when that was found last.
    lent_cat: Mutex<Option<(String, Instant)>>,
    /// The cats of the last [`MAX_BOOTS`] boots that have answered at its URL, each by its own word, the latest last.
    cats: Mutex<VecDeque<(u64, String)>>,
    kind: Kind,
    /// Makes connections to a paired node. `None`: it is not paired, or the hub has no key for calls to it.
    tls: Option<TlsClient>,
    /// The key that a paired node says to have.
    said_key: Mutex<Option<Fingerprint>>,
    /// It has not described itself when it was last asked.
    has_failed: AtomicBool,
    /// The addresses that it announces by mDNS, if any, and the one that the hub is connected to.
    route: Route,
    /// `None`: it has never answered.
    description: Mutex<Option<Description>>,
    /// It answers that it does not know the call, as the cats of the original system do.
    lacks: Lacks,
    calls: Calls,
    client: CatClient<Channel>,
    /// Cancelled when the hub stops using the node.
    dismissed: CancellationToken,
}

/// How the hub knows a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// By the config.
    Configured,
    /// By its announcement.
    Discovered,
    /// By its announcement. It answers only after it is paired.
    NeedsCode,
    /// The hub is paired with the node that has this id, and calls it over TLS.
    Paired(NodeId),
}

/// Calls that a node does not know.
#[derive(Debug, Default)]
struct Lacks {
    describe: AtomicBool,
    listen: AtomicBool,
}

/// The part of a node's last description that the hub keeps.
#[derive(Debug, Clone)]
pub struct Description {
    /// When it came.
    pub at: Instant,
    /// The cat that the node hears, by its own word. Empty: the node does not say.
    pub cat_name: String,
    /// Identifies its tape. 0: it has no boot ids, as in the original contract.
    pub boot_id: u64,
    /// Version of its program.
    pub version: String,
    /// State of its audio source.
    pub state: SourceState,
    /// One sentence about that state, or empty.
    pub detail: String,
    /// Its id, if it has proved it. `None`: it has no key, or its proof is not good for the address that was dialled.
    pub id: Option<NodeId>,
    /// The id that it claims, proved or not. Behind a forwarded port a node cannot prove its id, because it signs
    /// another address than the one that was dialled.
    pub claimed_id: Option<NodeId>,
}

#[cfg(test)]
impl Default for Description {
    fn default() -> Self {
        let (cat_name, version, detail) = Default::default();
        let (at, state) = (Instant::now(), SourceState::Unspecified);
        Self { at, cat_name, boot_id: 0, version, state, detail, id: None, claimed_id: None }
    }
}

/// The id that the keys in a description give. `None`: they do not follow from each other.
fn id_of(answer: &DescribeResponse) -> Option<NodeId> {
    if answer.key_changes.is_empty() {
        return Some(NodeId::of_spki(&answer.public_key));
    }
    let key = PublicKey::from_spki(&answer.public_key)?;
    KeyHistory::read(answer.key_changes.clone(), &key).ok().map(|history| history.id())
}

impl Node {
    pub(crate) fn new(config: &NodeConfig) -> Result<Self, tonic::transport::Error> {
        Self::over(config.url.expose().to_owned(), config.cat.clone(), Kind::Configured, None)
    }

    /// A discovered node under its permanent name. Nothing is connected yet.
    ///
    /// # Errors
    /// If `url` is not valid.
    pub fn discovered(url: String) -> Result<Self, tonic::transport::Error> {
        Self::over(url, None, Kind::Discovered, None)
    }

    /// A discovered node that answers only after it is paired. It has shown the key with this id in a handshake.
    ///
    /// # Errors
    /// If `url` is not valid.
    pub(crate) fn needing_code(url: String, id: NodeId) -> Result<Self, tonic::transport::Error> {
        let node = Self::over(url, None, Kind::NeedsCode, None)?;
        let (cat_name, version, detail) = Default::default();
        let (at, state, id) = (Instant::now(), SourceState::Unspecified, Some(id));
        node.set_description(Description { at, cat_name, boot_id: 0, version, state, detail, id, claimed_id: id });
        Ok(node)
    }

    /// A node with this id that the hub is paired with. Only what holds the key that `tls` expects is connected to.
    ///
    /// # Errors
    /// If `url` is not valid.
    pub fn paired(
        url: String,
        configured_cat: Option<&str>,
        key: NodeId,
        tls: TlsClient,
    ) -> Result<Self, tonic::transport::Error> {
        Self::over(url, configured_cat.map(str::to_owned), Kind::Paired(key), Some(tls))
    }

    /// A node that the hub is paired with and cannot call, because the hub has no usable key. It is shown with that
    /// reason, and nothing is dialled.
    ///
    /// # Errors
    /// If `url` is not valid.
    pub fn paired_without_key(
        url: String,
        configured_cat: Option<&str>,
        key: NodeId,
    ) -> Result<Self, tonic::transport::Error> {
        let node = Self::over(url, configured_cat.map(str::to_owned), Kind::Paired(key), None)?;
        node.inner.route.close();
        Ok(node)
    }

    fn over(
        url: String,
        configured_cat: Option<String>,
        kind: Kind,
        tls: Option<TlsClient>,
    ) -> Result<Self, tonic::transport::Error> {
        let route = Route::default();
        let channel = peer::channel_along(&url, &route, tls.clone())?;
        // Only the channel knows the password.
        let url = match mask_passwords(&url) {
            Cow::Owned(masked) => masked,
            Cow::Borrowed(_) => url,
        };
        let (description, calls, client) = (Mutex::default(), Calls::new(METHODS), CatClient::new(channel));
        let (client, lacks) = (client.max_decoding_message_size(MAX_MESSAGE_BYTES), Lacks::default());
        let (lent_cat, cats, dismissed) = (Mutex::default(), Mutex::default(), CancellationToken::new());
        let inner = Inner {
            url,
            configured_cat,
            lent_cat,
            cats,
            kind,
            tls,
            said_key: Mutex::default(),
            has_failed: AtomicBool::default(),
            route,
            description,
            lacks,
            calls,
            client,
            dismissed,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether the hub is paired with it: calls to it are encrypted, and reach only what holds its key.
    pub fn is_paired(&self) -> bool {
        self.paired_id().is_some()
    }

    /// The key that a paired node must have. `None`: it is not paired, or the hub cannot call it.
    pub fn pinned_key(&self) -> Option<Fingerprint> {
        self.inner.tls.as_ref()?.expected().first().copied()
    }

    /// A paired node has another key from now on. Its open connection goes on.
    pub fn pin_key(&self, key: Fingerprint) {
        if let Some(tls) = &self.inner.tls {
            tls.expect(vec![key]);
        }
    }

    /// Whether a paired node says that it has another key than the hub expects.
    pub fn has_other_key(&self) -> bool {
        let said = *self.inner.said_key.lock().unwrap_or_else(PoisonError::into_inner);
        said.is_some() && said != self.pinned_key()
    }

    /// Whether it has not described itself when it was last asked.
    pub fn has_failed(&self) -> bool {
        self.inner.has_failed.load(Ordering::Relaxed)
    }

    /// The id of a paired node, which stays when its key changes. `None`: it is not paired.
    pub fn paired_id(&self) -> Option<NodeId> {
        match self.inner.kind {
            Kind::Paired(id) => Some(id),
            _ => None,
        }
    }

    /// Whether it answers only after it is paired.
    pub(crate) fn needs_code(&self) -> bool {
        self.inner.kind == Kind::NeedsCode
    }

    /// Whether it was discovered rather than configured. A paired node counts as discovered.
    pub fn is_discovered(&self) -> bool {
        self.inner.kind != Kind::Configured
    }

    /// Sets the addresses that it announces. A connection to another address is cut. Returns whether they changed.
    pub fn set_addresses(&self, addresses: Vec<SocketAddr>) -> bool {
        self.inner.route.announce(addresses)
    }

    /// Another node answers where the hub is connected to: see [`Route::leave`].
    pub fn leave_address(&self) -> bool {
        self.inner.route.leave()
    }

    /// The addresses of its last announcement.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.inner.route.announced()
    }

    /// Stops using the node: its connection is cut, and it is not connected to again.
    pub(crate) fn dismiss(&self) {
        self.inner.dismissed.cancel();
        self.inner.route.close();
    }

    /// Whether the hub has stopped using the node: a person has taken its admission back.
    pub fn is_dismissed(&self) -> bool {
        self.inner.dismissed.is_cancelled()
    }

    /// Whether both are one node of the list, and not two that have one URL.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Waits until the hub stops using the node.
    pub async fn dismissed(&self) {
        self.inner.dismissed.cancelled().await;
    }

    /// The cat that it hears by the config.
    pub(crate) fn configured_cat(&self) -> Option<&str> {
        self.inner.configured_cat.as_deref()
    }

    /// This node is heard under this name instead of `other`, so it has the cat that is configured there, as long as
    /// this is found again and again.
    pub fn stands_for(&self, other: &Self) {
        if let Some(cat) = other.configured_cat() {
            let lent = Some((cat.to_owned(), Instant::now()));
            *self.inner.lent_cat.lock().unwrap_or_else(PoisonError::into_inner) = lent;
        }
    }

    fn lent_cat(&self) -> Option<String> {
        let lent = self.inner.lent_cat.lock().unwrap_or_else(PoisonError::into_inner);
        lent.as_ref().filter(|(_, at)| at.elapsed() < LENT_CAT_HOLDS).map(|(cat, _)| cat.clone())
    }

    /// The id that it proved last. `None`: it has never proved one.
    pub fn id(&self) -> Option<NodeId> {
        self.description().and_then(|description| description.id)
    }

    pub(crate) fn set_description(&self, description: Description) {
        let mut cats = self.inner.cats.lock().unwrap_or_else(PoisonError::into_inner);
        cats.retain(|(boot_id, _)| *boot_id != description.boot_id);
        if cats.len() >= MAX_BOOTS {
            cats.pop_front();
        }
        cats.push_back((description.boot_id, description.cat_name.clone()));
        drop(cats);
        *self.inner.description.lock().unwrap_or_else(PoisonError::into_inner) = Some(description);
    }

    /// Its URL, which identifies it. `***` stands for a password in it.
    pub fn url(&self) -> &str {
        &self.inner.url
    }

    /// The cat that it hears: by the config, else by its description. `None`: not known (yet).
    pub fn cat(&self) -> Option<String> {
        let described = || self.description().map(|description| description.cat_name).filter(|name| !name.is_empty());
        self.inner.configured_cat.clone().or_else(|| self.lent_cat()).or_else(described)
    }

    /// The cat that was heard in this boot. Another node may have taken the place of the one that was heard, so this is
    /// not always [`Node::cat`].
    pub fn cat_of_boot(&self, boot_id: u64) -> Option<String> {
        let cats = self.inner.cats.lock().unwrap_or_else(PoisonError::into_inner);
        let described = cats.iter().find(|(boot, _)| *boot == boot_id).map(|(_, cat)| cat.clone());
        drop(cats);
        let described = described.map(|cat| Some(cat).filter(|name| !name.is_empty()));
        self.inner
            .configured_cat
            .clone()
            .or_else(|| self.lent_cat())
            .or_else(|| described.unwrap_or_else(|| self.cat()))
    }

    /// Its last description. `None`: it has never answered.
    pub fn description(&self) -> Option<Description> {
        self.inner.description.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its last description, unless that is too old. `None`: it does not answer.
    pub fn recent_description(&self) -> Option<Description> {
        self.description().filter(|description| description.at.elapsed() < DESCRIPTION_HOLDS)
    }

    /// Whether it can stream audio, as far as is known. The cats of the original system cannot.
    pub fn has_audio(&self) -> bool {
        self.is_described() && !self.inner.lacks.listen.load(Ordering::Relaxed)
    }

    /// Whether it describes itself, as far as is known.
    pub fn is_described(&self) -> bool {
        !self.inner.lacks.describe.load(Ordering::Relaxed)
    }

    /// Counts of the calls to it.
    pub fn calls(&self) -> &Calls {
        &self.inner.calls
    }

    /// Waits up to `deadline` for the answer to a call, and counts the call under a name of [`METHODS`].
    pub async fn ask<T>(
        &self,
        method: &str,
        deadline: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        let mut counted = self.inner.calls.begin(method, "given_up");
        let answer = if self.is_paired() && self.inner.tls.is_none() {
            Err(Error::new(Code::Unavailable(Who::Node), NO_KEY))
        } else {
            within(Who::Node, deadline, call).await
        };
        counted.answered();
        counted.end(answer.as_ref().map_or_else(|error| error.code.as_str(), |_| "ok"));
        Ok(answer?.into_inner())
    }

    /// A client on the shared channel.
    pub fn client(&self) -> CatClient<Channel> {
        self.inner.client.clone()
    }

    /// Calls the cat. The node notifies the owner, unless its answer says `caller_tells_owner`, which it does only if
    /// the request says so too and the node knows the field.
    ///
    /// # Errors
    /// About the node, or about the owner if the node could not notify the owner.
    pub async fn call_cat(&self, cat: String, caller_tells_owner: bool) -> Result<CatResponse, Error> {
        let mut request = Request::new(CatRequest { cat_name: cat, caller_tells_owner });
        request.set_timeout(CALL_DEADLINE);
        let answer = self.ask("call_cat", CALL_DEADLINE, async {
            self.client().call_cat(request).await.map_err(|status| {
                // The contract says that these two codes in an answer are about the owner. A broken connection has a
                // source, and newer nodes send a word that says more.
                let has_word = status.metadata().contains_key(ERROR_CODE_KEY);
                let from_node = std::error::Error::source(&status).is_none() && !has_word;
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
        // With twenty nodes, the name of the cat does not tell which of them failed.
        answer.await.map_err(|error| match error.code {
            Code::Unavailable(Who::Node) | Code::TooSlow(Who::Node) | Code::BadAnswer(Who::Node) => {
                Error::new(error.code, self.named_in(&error.message))
            }
            _ => error,
        })
    }

    /// A message about the node, with its URL.
    fn named_in(&self, message: &str) -> String {
        let url = mask_passwords(self.url());
        match message.strip_prefix(&format!("the {}", Who::Node)) {
            Some(rest) => format!("the {} at {url}{rest}", Who::Node),
            None => format!("the {} at {url}: {message}", Who::Node),
        }
    }

    /// Opens the stream of 30 messages with audio, with the caller's metadata.
    ///
    /// # Errors
    /// As [`Error::from_status`], and [`Code::TooSlow`] if the stream does not begin in time.
    pub async fn analyze_cat_sound(
        &self,
        cat: String,
        metadata: MetadataMap,
    ) -> Result<Streaming<AnalyzeCatSoundResponse>, Error> {
        let request = AnalyzeCatSoundRequest { cat_name: cat, with_audio: true };
        let request = Request::from_parts(metadata, Extensions::default(), request);
        // The first message is due after a second. Nodes with the original program send the headers only then.
        let deadline = ANSWER_DEADLINE + Duration::from_secs(2);
        self.ask("analyze_cat_sound", deadline, self.client().analyze_cat_sound(request)).await
    }

    /// Opens the stream of the tape. `None`: the node answers that it does not know the call.
    ///
    /// # Errors
    /// As [`Error::from_status`], and [`Code::TooSlow`] if the stream does not begin within `deadline`.
    pub async fn listen(
        &self,
        request: ListenRequest,
        deadline: Duration,
    ) -> Result<Option<Streaming<ListenResponse>>, Error> {
        // No timeout on the request: it would end the stream.
        let call = async { known_call(self.client().listen(Request::new(request)).await) };
        let stream = self.ask("listen", deadline, call).await?;
        self.inner.lacks.listen.store(stream.is_none(), Ordering::Relaxed);
        Ok(stream)
    }

    /// Asks the node to describe itself, and keeps the description. A node that does not know the call, as the cats of
    /// the original system, has the empty description, whose boot id is 0.
    ///
    /// # Errors
    /// As [`Error::from_status`].
    pub async fn describe(&self) -> Result<DescribeResponse, Error> {
        let challenge: [u8; CHALLENGE_BYTES] = rand::random();
        let mut request = Request::new(DescribeRequest { challenge: challenge.to_vec() });
        request.set_timeout(ANSWER_DEADLINE);
        let call = async { known_call(self.client().describe(request).await) };
        let answer = self.ask("describe", ANSWER_DEADLINE, call).await;
        self.inner.has_failed.store(answer.is_err(), Ordering::Relaxed);
        let answer = answer?;
        self.inner.lacks.describe.store(answer.is_none(), Ordering::Relaxed);
        let mut answer = answer.unwrap_or_default();
        if self.is_paired() {
            let said = PublicKey::from_spki(&answer.public_key).map(|key| key.fingerprint());
            *self.inner.said_key.lock().unwrap_or_else(PoisonError::into_inner) = said;
        }
        // The texts go into every event, and the node may be a stranger's.
        answer.cat_name = clean(&answer.cat_name, MAX_NAME_BYTES);
        answer.version = clean(&answer.version, MAX_WORD_BYTES);
        if let Some(source) = &mut answer.source {
            for word in [&mut source.kind, &mut source.device, &mut source.detail] {
                *word = clean(word, MAX_WORD_BYTES);
            }
        }
        let source = answer.source.clone().unwrap_or_default();
        self.set_description(Description {
            at: Instant::now(),
            cat_name: answer.cat_name.clone(),
            boot_id: answer.boot_id,
            version: answer.version.clone(),
            state: source.state(),
            detail: source.detail,
            // TLS has proved the key of a paired node.
            id: self.paired_id().or_else(|| self.proved_id(&answer, &challenge)),
            claimed_id: Some(&answer.public_key).filter(|key| !key.is_empty()).and_then(|_| id_of(&answer)),
        });
        Ok(answer)
    }

    /// The id that the node has proved with its answer to a challenge.
    fn proved_id(&self, answer: &DescribeResponse, challenge: &[u8; CHALLENGE_BYTES]) -> Option<NodeId> {
        let dialled = self.inner.route.connected_to()?;
        identity::verify(&answer.public_key, &answer.proof, challenge, answer.boot_id, dialled).ok()?;
        id_of(answer)
    }

    /// Describes the node every few seconds, until it is dismissed.
    pub(crate) async fn keep_described(&self) {
        tokio::select! {
            () = self.describe_often() => {}
            () = self.dismissed() => {}
        }
    }

    /// Describes the node every few seconds, forever. Logs when it is found and when it does not answer.
    async fn describe_often(&self) {
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
                    if let Some(suppressed_lines) = quiet.allow() {
                        let code = error.code.as_str();
                        warn!(node = self.url(), code, %error, suppressed_lines, "node does not answer");
                    }
                    backoff.next_wait()
                }
            };
            tokio::time::sleep(wait).await;
        }
    }
}

/// `None`: the node answers that it does not know the call. A status without a source is an answer.
fn known_call<T>(answer: Result<Response<T>, Status>) -> Result<Response<Option<T>>, Status> {
    match answer {
        Err(status) if status.code() == tonic::Code::Unimplemented && std::error::Error::source(&status).is_none() => {
            Ok(Response::new(None))
        }
        answer => answer.map(|answer| answer.map(Some)),
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
