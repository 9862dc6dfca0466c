//! A subscriber that records when each message arrived.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use e2e::node::Node;
use proto::listen_response::Event;
use proto::{AudioFrame, Gap, ListenRequest};
use tokio::task::JoinHandle;

/// One message of the stream.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    /// When it arrived.
    pub(crate) at: Instant,
    /// Its frame or gap.
    pub(crate) event: Event,
}

/// A subscriber, until dropped.
pub(crate) struct Listener {
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Subscribes to a node from its first frame on.
    pub(crate) async fn start(node: &Node) -> Self {
        let request = ListenRequest { from: Some(proto::Cursor { boot_id: 0, sequence: 0 }), ..Default::default() };
        let mut stream = node.client().listen(request).await.expect("the node accepts a subscriber").into_inner();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                let event = message.event.expect("every message has a frame or a gap");
                notes.lock().unwrap().push(Heard { at: Instant::now(), event });
            }
        });
        Self { heard, task }
    }

    /// All messages so far.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Number of messages with audio so far.
    pub(crate) fn frames(&self) -> usize {
        self.heard.lock().unwrap().iter().filter(|heard| matches!(heard.event, Event::Frame(_))).count()
    }

    /// How late the frames up to `before` came at the earliest, and those from `after` on: since the first message,
    /// less
    /// 20 ms for each number. Frames come late but never early, so an exact gap between the two leaves both the same.
    pub(crate) fn earliest(&self, before: u64, after: u64) -> (Duration, Duration) {
        let heard = self.heard();
        let began = heard[0].at;
        let earliest = |numbers: RangeInclusive<u64>| {
            let lateness = heard.iter().filter_map(|heard| match &heard.event {
                Event::Frame(frame) if numbers.contains(&frame.sequence) => {
                    // The hour keeps it positive.
                    let due = Duration::from_millis(20 * frame.sequence);
                    Some(heard.at - began + Duration::from_secs(3600) - due)
                }
                _ => None,
            });
            lateness.min().expect("audio came before and after the outage")
        };
        (earliest(0..=before), earliest(after..=u64::MAX))
    }

    /// Whether the stream is still open.
    pub(crate) fn is_listening(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Consecutive gaps, with the audio before and after them.
#[derive(Debug)]
pub(crate) struct Outage {
    /// The last frame before it. `None`: the stream begins with the outage.
    pub(crate) before: Option<AudioFrame>,
    /// Frames in the gaps.
    pub(crate) frames: u64,
    /// The gaps.
    pub(crate) gaps: Vec<Gap>,
    /// The first frame after it, and when that arrived.
    pub(crate) after: (AudioFrame, Instant),
}

/// The outages of a stream that began at frame 0.
///
/// # Panics
/// If a sequence number is neither delivered nor covered by a gap, or is delivered twice.
pub(crate) fn outages(heard: &[Heard]) -> Vec<Outage> {
    let mut next = 0;
    let mut last: Option<AudioFrame> = None;
    let mut gaps: Vec<Gap> = Vec::new();
    let mut outages = Vec::new();
    for Heard { at, event } in heard {
        match event {
            Event::Frame(frame) => {
                assert_eq!(frame.sequence, next, "a frame was neither delivered nor covered by a gap");
                assert_eq!(frame.first_sample, 320 * frame.sequence);
                next += u64::from(frame.sample_count) / 320;
                if !gaps.is_empty() {
                    let frames = gaps.iter().map(|gap| gap.frame_count).sum();
                    let after = (frame.clone(), *at);
                    outages.push(Outage { before: last.take(), frames, gaps: std::mem::take(&mut gaps), after });
                }
                last = Some(frame.clone());
            }
            Event::Gap(gap) => {
                assert_eq!(gap.first_sequence, next, "a gap does not begin where the audio ended");
                next += gap.frame_count;
                gaps.push(gap.clone());
            }
        }
    }
    outages
}
