//! Looks at a hub while something goes on.

use std::time::{Duration, Instant};

use e2e::http;
use e2e::hub::Hub;
use e2e::wait::until;
use serde_json::Value;

/// How long a row waits for what must come in the end. A busy machine takes longer than an idle one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How soon `/readyz` must answer: the median of the answers, because one may wait for a busy machine.
pub(crate) const PROMPT: Duration = Duration::from_secs(1);

/// What the hub says of listening to the node at this URL.
pub(crate) async fn listening(hub: &Hub, url: &str) -> Option<Value> {
    let answer = http::try_exchange(hub.at.http, "GET", "/api/v1/listening").await.ok()?;
    answer.json()["nodes"].as_array()?.iter().find(|node| node["node"] == url).cloned()
}

/// Waits until the hub hears a node live, and more than `frames` frames of it. Returns the number of frames.
///
/// # Panics
/// If that takes longer than [`PATIENCE`].
pub(crate) async fn live(hub: &Hub, url: &str, frames: u64) -> u64 {
    until(PATIENCE, &format!("{url} is heard live"), || async {
        let node = listening(hub, url).await?;
        (node["state"] == "live").then(|| node["frames"].as_u64())?.filter(|heard| *heard > frames)
    })
    .await
}

/// Waits until `/readyz` has this status. Returns how long that took, and the answer.
///
/// # Panics
/// If that takes longer than [`PATIENCE`].
pub(crate) async fn ready(hub: &Hub, status: u16) -> (Duration, String) {
    let start = Instant::now();
    let answer = until(PATIENCE, &format!("/readyz is {status}"), || async {
        let answer = http::try_exchange(hub.at.http, "GET", "/readyz").await.ok()?;
        (answer.status == status).then(|| answer.text().to_owned())
    })
    .await;
    (start.elapsed(), answer)
}

/// How long `/readyz` took to answer while something went on, sorted.
pub(crate) struct Answers(Vec<Duration>);

impl Answers {
    /// Asks for as long as `work` takes.
    ///
    /// # Panics
    /// If an answer does not come at all.
    pub(crate) async fn during<T>(hub: &Hub, work: impl Future<Output = T>) -> (Self, T) {
        let (took, result) = Box::pin(hub.asked_during(work)).await;
        (Self(took), result)
    }

    /// Requires prompt answers. Returns words for the table.
    ///
    /// # Panics
    /// If the median is not within [`PROMPT`].
    pub(crate) fn must_be_prompt(&self) -> String {
        let (median, slowest) = (self.0[self.0.len() / 2], self.0[self.0.len() - 1]);
        assert!(median < PROMPT, "/readyz is slow: {:?}", self.0);
        format!(
            "/readyz {} answers, median {} ms, slowest {:.2} s",
            self.0.len(),
            median.as_millis(),
            slowest.as_secs_f64()
        )
    }
}
