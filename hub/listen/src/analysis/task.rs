//! One analysis, from opening the stream to the outcome that is stored.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::backoff::Backoff;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::MAX_NAME_BYTES;
use hub_base::error::{Code, Error, Who};
use hub_base::text::clean;
use hub_nodes::{Node, state_word};
use hub_store::analyses::{AnalysisStatus, Outcome};
use hub_store::events::FalseAlarms;
use hub_store::{Store, StoreError};
use proto::{AnalyzeCatSoundResponse, SourceState};
use sound::analysis::{Analysis, Vocalisation};
use sound::detection::Detection;
use sound::detector::DetectorConfig;
use sound::household::Household;
use sound::verdict::{Finding, Verdict};
use tokio::time::{Instant, timeout_at};
use tonic::Streaming;
use tonic::metadata::{KeyRef, MetadataMap};
use tracing::{info, warn};

use super::hearing::{Hearing, StreamResult};

/// Why an analysis ended that the hub left running when it stopped or was killed.
pub(super) const CUT_OFF: &str = "the hub was stopped during the analysis";

/// Messages in a whole stream, as in the contract.
pub(super) const MESSAGES: u32 = 30;

/// How long the hub tries to reach a node.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// First and longest wait between two tries.
const CONNECT_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// How long the next message may take. One is due every second.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(5);

/// How long an analysis may take. It takes 30 s if all goes well.
const DEADLINE: Duration = Duration::from_secs(45);

/// Metadata that belongs to one connection or call and is not passed on. The same goes for gRPC's own keys (`grpc-`):
/// the caller's deadline is for the immediate answer, not for the half minute of listening.
const NOT_PASSED_ON: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// An analysis to run.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) store: Store,
    pub(super) detector: DetectorConfig,
    pub(super) cat: String,
    pub(super) node: Node,
    pub(super) metadata: MetadataMap,
    pub(super) stop: CancellationToken,
    /// Limits how often failures are logged: a client may repeat a request that the node refuses.
    pub(super) failures: Arc<Mutex<Quiet>>,
}

/// The part of the caller's metadata that is passed on to the node.
pub(super) fn passed_on(mut metadata: MetadataMap) -> MetadataMap {
    let keys: Vec<String> = metadata
        .keys()
        .map(|key| match key {
            KeyRef::Ascii(key) => key.as_str().to_owned(),
            KeyRef::Binary(key) => key.as_str().to_owned(),
        })
        .collect();
    for key in keys {
        if key.starts_with("grpc-") || NOT_PASSED_ON.contains(&key.as_str()) {
            if key.ends_with("-bin") {
                metadata.remove_bin(key.as_str());
            } else {
                metadata.remove(key.as_str());
            }
        }
    }
    metadata
}

impl Task {
    /// Listens until the stream ends, and returns the outcome. A failure is an outcome too.
    pub(super) async fn run(self, analysis_id: i64) -> Outcome {
        let deadline = Instant::now() + DEADLINE;
        let opened = tokio::select! {
            opened = self.open() => opened,
            () = self.stop.cancelled() => Err(Error::new(Code::Stopping, CUT_OFF)),
        };
        let listened = match opened {
            Ok(stream) => self.listen(stream, deadline).await,
            Err(error) => Listened::nothing(error.message),
        };
        let outcome = listened.outcome(&self.household().await, &self.false_alarms().await);
        let node = self.node.url();
        let reason = outcome.reason.as_deref();
        match outcome.verdict {
            Some(verdict) => info!(
                analysis_id,
                node,
                status = outcome.status.as_str(),
                reason,
                cat_score = outcome.cat_score,
                detections = outcome.detections.len(),
                "{}",
                Finding::new(verdict, outcome.detections.len()).sentence(&clean(&self.cat, MAX_NAME_BYTES))
            ),
            None => {
                let allowed = self.failures.lock().unwrap_or_else(PoisonError::into_inner).allow();
                if let Some(suppressed_lines) = allowed {
                    warn!(analysis_id, node, cat = self.cat, reason, suppressed_lines, "analysis failed");
                }
            }
        }
        outcome
    }

    /// What the owner's labels taught about this cat. If they cannot be read, the general model is used.
    async fn household(&self) -> Household {
        self.or_untaught(self.store.household(&self.cat).await)
    }

    /// The sounds that the owner's labels taught as no cats. If they cannot be read, there are none.
    async fn false_alarms(&self) -> FalseAlarms {
        self.or_untaught(self.store.false_alarms(self.node.url()).await)
    }

    fn or_untaught<T: Default>(&self, taught: Result<T, StoreError>) -> T {
        taught.unwrap_or_else(|error| {
            let allowed = self.failures.lock().unwrap_or_else(PoisonError::into_inner).allow();
            if let Some(suppressed_lines) = allowed {
                warn!(cat = self.cat, node = self.node.url(), %error, suppressed_lines, "cannot read the labels");
            }
            T::default()
        })
    }

    /// Opens the stream. A node that cannot be reached has a few seconds to come up.
    async fn open(&self) -> Result<Streaming<AnalyzeCatSoundResponse>, Error> {
        let patience_ends = Instant::now() + CONNECT_PATIENCE;
        let mut backoff = Backoff::new(CONNECT_AGAIN.0, CONNECT_AGAIN.1);
        loop {
            let error = match self.node.analyze_cat_sound(self.cat.clone(), self.metadata.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(error) => error,
            };
            let again = Instant::now() + backoff.next_wait();
            if error.code != Code::Unavailable(Who::Node) || again > patience_ends {
                return Err(error);
            }
            tokio::time::sleep_until(again).await;
        }
    }

    async fn listen(&self, mut stream: Streaming<AnalyzeCatSoundResponse>, deadline: Instant) -> Listened {
        let mut hearing = Hearing::new(self.detector);
        let mut messages = 0;
        let mut state = SourceState::Unspecified;
        let ended = loop {
            let next_until = deadline.min(Instant::now() + MESSAGE_DEADLINE);
            let next = tokio::select! {
                () = self.stop.cancelled() => break Some(CUT_OFF.to_owned()),
                next = timeout_at(next_until, stream.message()) => next,
            };
            let message = match next {
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) if messages >= MESSAGES => break None,
                Ok(Ok(None)) => break Some(format!("the stream ended after {messages} of {MESSAGES} messages")),
                // All promised messages are there, so it does not matter how the stream ends.
                Ok(Err(_)) | Err(_) if messages >= MESSAGES => break None,
                Ok(Err(status)) => {
                    let error = Error::from_status(Who::Node, &status);
                    break Some(format!("the stream broke after {messages} of {MESSAGES} messages: {error}"));
                }
                Err(_) if Instant::now() >= deadline => {
                    break Some(format!("only {messages} of {MESSAGES} messages came in {} s", DEADLINE.as_secs()));
                }
                Err(_) => {
                    let waited_s = MESSAGE_DEADLINE.as_secs();
                    break Some(format!("no message for {waited_s} s after {messages} of {MESSAGES}"));
                }
            };
            if messages >= MESSAGES {
                break None;
            }
            messages += 1;
            state = message.state();
            let taken = tokio::task::spawn_blocking(move || {
                let taken = hearing.take(message.audio);
                (hearing, taken)
            });
            match taken.await {
                Ok((same, Ok(()))) => hearing = same,
                Ok((same, Err(error))) => {
                    hearing = same;
                    break Some(error.to_string());
                }
                Err(crash) => {
                    return Listened { messages, ..Listened::nothing(format!("the analysis crashed: {crash}")) };
                }
            }
        };
        match tokio::task::spawn_blocking(move || hearing.finish()).await {
            Ok(heard) => Listened { heard: Some(heard), messages, state, ended },
            Err(crash) => Listened { messages, ..Listened::nothing(format!("the analysis crashed: {crash}")) },
        }
    }
}

/// The result of listening.
struct Listened {
    heard: Option<StreamResult>,
    messages: u32,
    /// The source's state at the last message.
    state: SourceState,
    /// Why it ended early. `None`: it did not end early.
    ended: Option<String>,
}

impl Listened {
    fn nothing(reason: String) -> Self {
        Self { heard: None, messages: 0, state: SourceState::Unspecified, ended: Some(reason) }
    }

    /// What sounds like false alarms of the node is left out of the vocalisations and of the cat score.
    fn outcome(self, household: &Household, false_alarms: &FalseAlarms) -> Outcome {
        let heard = self.heard.filter(|heard| heard.heard_samples > 0);
        let (status, reason) = match (&heard, self.ended) {
            (Some(_), None) => (AnalysisStatus::Complete, None),
            (Some(_), Some(why)) => (AnalysisStatus::Partial, Some(why)),
            (None, None) if self.state == SourceState::Capturing => {
                // No verdict: nobody can tell whether there was a cat.
                let why = "the node captures sound, but sent none although the hub asked for it; update its program";
                (AnalysisStatus::Failed, Some(why.to_owned()))
            }
            (None, None) => {
                // A node with the original program sends messages without audio.
                let why = format!("the node sent no audio (its source: {})", state_word(self.state));
                (AnalysisStatus::Partial, Some(why))
            }
            (None, Some(why)) => (AnalysisStatus::Failed, Some(why)),
        };
        let failed = status == AnalysisStatus::Failed;
        let (heard_samples, lost_samples) = heard.as_ref().map_or((0, 0), |it| (it.heard_samples, it.lost_samples));
        let origin = heard.as_ref().and_then(|heard| heard.origin);
        let (analysis, vocalisations) = heard.map(|heard| (heard.analysis, heard.vocalisations)).unzip();
        let mut vocalisations = vocalisations.unwrap_or_default();
        let all = vocalisations.len();
        vocalisations.retain(|vocalisation| false_alarms.like(&vocalisation.features).is_empty());
        let cat_score = analysis.as_ref().map(|analysis: &Analysis| {
            if vocalisations.len() == all {
                return analysis.cat_score;
            }
            // The score of the whole recording may be that of a false alarm.
            vocalisations.iter().map(|one| one.detection.score).fold(0.0, f32::max)
        });
        let judged = |vocalisation: Vocalisation| Detection {
            context: household.context(&vocalisation.features),
            ..vocalisation.detection
        };
        let detections: Vec<Detection> = vocalisations.into_iter().map(judged).collect();
        Outcome {
            status,
            reason,
            verdict: (!failed).then(|| Verdict::of(&detections)),
            cat_score,
            messages: self.messages,
            heard_samples,
            lost_samples,
            origin,
            level: analysis.map(|analysis| analysis.level),
            context_labels: household.labels(),
            detections,
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataValue;

    use super::*;

    #[test]
    fn callers_metadata_is_passed_on_and_the_connections_is_not() {
        let mut metadata = MetadataMap::new();
        for key in ["x-request-id", "authorization", "traceparent"] {
            metadata.insert(key, MetadataValue::from_static("kept"));
        }
        metadata.append("x-request-id", MetadataValue::from_static("twice"));
        metadata.insert_bin("x-token-bin", MetadataValue::from_bytes(b"\0\xff"));
        for key in ["grpc-timeout", "grpc-accept-encoding", "user-agent", "te", "content-type", "cookie", "host"] {
            metadata.insert(key, MetadataValue::from_static("left out"));
        }
        metadata.insert_bin("grpc-trace-bin", MetadataValue::from_bytes(b"left out"));

        let passed = passed_on(metadata);
        let values: Vec<_> = passed.get_all("x-request-id").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values, ["kept", "twice"]);
        assert_eq!(passed.get("authorization").unwrap(), "kept");
        assert_eq!(passed.get("traceparent").unwrap(), "kept");
        assert_eq!(passed.get_bin("x-token-bin").unwrap().to_bytes().unwrap().as_ref(), b"\0\xff");
        assert_eq!(passed.len(), 5);
    }
}
