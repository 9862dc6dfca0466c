//! One cat-node: the channel to it, the calls on it, and what it said of itself.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use daemon::backoff::Backoff;
use daemon::metrics::Calls;
use daemon::quiet::Quiet;
use hub_base::MAX_NAME_BYTES;
use hub_base::error::{Code, Error, Who, within};
use hub_base::peer::{self, Announced};
use proto::cat_client::CatClient;
use proto::{
    AnalyzeCatSoundRequest, AnalyzeCatSoundResponse, CatRequest, DescribeRequest, DescribeResponse, SourceState,
};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Extensions, Request, Response, Status, Streaming};
use tracing::{info, warn};

use super::address::NodeConfig;

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
pub(super) const BOOT_ID_HOLDS: Duration = Duration::from_secs(15);

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
pub(super) struct Described {
    pub(super) cat: Option<String>,
    /// With the time of the answer. `None`: it has not answered, or knows no boot ids.
    pub(super) boot_id: Option<(u64, Instant)>,
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

impl Node {
    pub(super) fn new(config: &NodeConfig) -> Result<Self, tonic::transport::Error> {
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

    /// The cat that the config says it hears.
    pub(super) fn configured_cat(&self) -> Option<&str> {
        self.inner.configured_cat.as_deref()
    }

    /// The boot id that it has just answered with.
    pub(super) fn boot_id(&self) -> Option<u64> {
        let boot_id = self.described().boot_id;
        boot_id.filter(|(_, at)| at.elapsed() < BOOT_ID_HOLDS).map(|(boot_id, _)| boot_id)
    }

    pub(super) fn described(&self) -> std::sync::MutexGuard<'_, Described> {
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
    pub async fn ask<T>(
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

    pub(super) async fn keep_known(&self) {
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

    #[test]
    fn text_of_a_node_is_cut_between_characters() {
        for (text, most_bytes, left) in [("Tom", 3, "Tom"), ("Tom", 2, "To"), ("Jürgen", 2, "J"), ("", 0, "")] {
            let mut cut = text.to_owned();
            shorten(&mut cut, most_bytes);
            assert_eq!(cut, left, "{text:?} to {most_bytes}");
        }
    }
}
