//! What a clip says of its event, as a comment in the file: JSON in the `ICMT` of a WAV file, or in the comment
//! `MEOWLINK` of a FLAC file. If the database is lost, the event is recovered from it. The gateway serves clips without
//! the comment.

use hub_base::text::{MAX_MESSAGE_BYTES, clean};
use serde::{Deserialize, Serialize};
use sound::context::Features;
use sound::detection::{Context, ContextProbabilities, Measurements};

use crate::events::event::NewEvent;

/// Version of the comment. A reader ignores other versions.
const VERSION: u32 = 1;

/// Longest name of a node, a cat or a kind that is read, in bytes. What this program writes is shorter.
pub(super) const MAX_TEXT_BYTES: usize = MAX_MESSAGE_BYTES;

#[derive(Serialize, Deserialize)]
struct Comment {
    meowlink_clip: u32,
    node: String,
    /// The id that the node had proved. Absent in comments of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_id: Option<String>,
    cat: String,
    /// 16 hexadecimal digits, as in the API: JSON has no integers of 64 bits.
    boot_id: String,
    start_sample: u64,
    end_sample: u64,
    started_at_ns: i64,
    ended_at_ns: i64,
    started_monotonic_ns: u64,
    clock: String,
    score: f32,
    kind: Option<String>,
    context: Context,
    measurements: Measurements,
    /// Id of the network that heard it, 16 hexadecimal digits.
    model: String,
    /// The features as the database stores them, in hexadecimal digits.
    features: Option<String>,
    clip_start_sample: u64,
    clip_samples: u64,
    /// Checksum of the samples: see [`fingerprint`].
    checksum: String,
}

/// What a clip says of its event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Story {
    pub(super) event: NewEvent,
    /// The id that the node had proved. `None`: it had proved none, or an earlier version wrote the clip.
    pub(super) node_id: Option<String>,
    /// First sample of the clip, on the node's count.
    pub(super) clip_start_sample: u64,
    samples: u64,
    checksum: String,
}

impl Story {
    /// Reads a comment. `None` if it is not a comment of this program and version.
    pub(super) fn read(comment: &str) -> Option<Self> {
        let comment: Comment =
            serde_json::from_str(comment).ok().filter(|read: &Comment| read.meowlink_clip == VERSION)?;
        let event = NewEvent {
            boot_id: u64::from_str_radix(&comment.boot_id, 16).ok()?,
            clock: comment.clock.parse().ok()?,
            features: comment.features.and_then(|hex| Features::from_bytes(&unhex(&hex)?)).map(Box::new),
            node: comment.node,
            cat: comment.cat,
            start_sample: comment.start_sample,
            end_sample: comment.end_sample,
            started_at_ns: comment.started_at_ns,
            ended_at_ns: comment.ended_at_ns,
            started_monotonic_ns: comment.started_monotonic_ns,
            score: comment.score,
            kind: comment.kind,
            context: comment.context,
            measurements: comment.measurements,
            envelope: None,
        };
        let is_id = |id: &String| id.len() == 64 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let node_id = comment.node_id.filter(is_id);
        // Everything that reads an event relies on this. The file may be damaged, or another program may have made it.
        let most = i64::MAX.cast_unsigned();
        let is_in_order = event.start_sample < event.end_sample && event.started_at_ns <= event.ended_at_ns;
        let is_countable =
            [event.end_sample, event.started_monotonic_ns, comment.clip_start_sample].iter().all(|n| *n <= most);
        let is_clean = |text: &String| clean(text, MAX_TEXT_BYTES) == *text;
        let is_credible = (0.0..=1.0).contains(&event.score) && are_finite(&event);
        let are_texts = is_clean(&event.node) && is_clean(&event.cat) && event.kind.iter().all(is_clean);
        (is_in_order && is_countable && is_credible && are_texts).then_some(Self {
            event,
            node_id,
            clip_start_sample: comment.clip_start_sample,
            samples: comment.clip_samples,
            checksum: comment.checksum,
        })
    }

    /// Whether these are the samples that the clip was written with.
    pub(super) fn is_about(&self, samples: &[i16]) -> bool {
        self.samples == samples.len() as u64 && self.checksum == fingerprint(samples)
    }
}

/// Whether all numbers of the context and the measurements are finite.
fn are_finite(event: &NewEvent) -> bool {
    let ContextProbabilities { waiting_for_food, isolation, brushing } = event.context.probabilities;
    let probabilities = [waiting_for_food, isolation, brushing];
    probabilities.into_iter().chain(event.measurements.numbers()).all(f32::is_finite)
}

/// The comment for the clip of an event. `node_id`: the id that the node has proved. `clip_start_sample`: first sample
/// of the clip, on the node's count.
pub(super) fn write(event: &NewEvent, node_id: Option<String>, clip_start_sample: u64, samples: &[i16]) -> String {
    let comment = Comment {
        meowlink_clip: VERSION,
        node: event.node.clone(),
        node_id,
        cat: event.cat.clone(),
        boot_id: format!("{:016x}", event.boot_id),
        start_sample: event.start_sample,
        end_sample: event.end_sample,
        started_at_ns: event.started_at_ns,
        ended_at_ns: event.ended_at_ns,
        started_monotonic_ns: event.started_monotonic_ns,
        clock: event.clock.as_str().to_owned(),
        score: event.score,
        kind: event.kind.clone(),
        context: event.context,
        measurements: event.measurements,
        model: format!("{:016x}", u64::from_le_bytes(Features::mark())),
        features: event.features.as_ref().map(|features| hex(&features.to_bytes())),
        clip_start_sample,
        clip_samples: samples.len() as u64,
        checksum: fingerprint(samples),
    };
    // Only a number that is not finite could fail, and serde_json writes that as null.
    serde_json::to_string(&comment).unwrap_or_default()
}

/// FNV-1a, 64 bits, over the samples as little-endian bytes: 16 hexadecimal digits. It finds damage, not forgery.
pub(super) fn fingerprint(samples: &[i16]) -> String {
    let bytes = samples.iter().flat_map(|sample| sample.to_le_bytes());
    let sum = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{sum:016x}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::event;

    #[test]
    fn comment_brings_the_event_back_and_foreign_ones_are_ignored() {
        for found in [event("http://kitchen:1", 16_000), NewEvent { features: None, kind: None, ..event("", 1) }] {
            let id = "0123456789abcdef".repeat(4);
            let comment = write(&found, Some(id.clone()), 15_000, &[1, -2, 3]);
            assert_eq!(Story::read(&comment).unwrap().node_id, Some(id));
            for id in [None, Some("'; DROP".to_owned())] {
                assert_eq!(Story::read(&write(&found, id, 15_000, &[])).unwrap().node_id, None);
            }
            let story = Story::read(&comment).unwrap();
            assert_eq!((&story.event, story.clip_start_sample), (&found, 15_000));
            assert!(story.is_about(&[1, -2, 3]) && !story.is_about(&[1, -2, 4]) && !story.is_about(&[1, -2]));
            assert_eq!(Story::read(&comment.replace("\"meowlink_clip\":1", "\"meowlink_clip\":2")), None);
            assert_eq!(Story::read(&comment[..comment.len() - 1]), None);
        }
        assert_eq!(Story::read("recorded with love"), None);
    }

    #[test]
    fn comment_that_no_event_can_have_is_ignored() {
        let found = event("http://kitchen:1", 16_000);
        let comment = write(&found, None, 15_000, &[1]);
        assert!(Story::read(&comment).is_some());
        for (good, bad) in [
            ("\"end_sample\":24000", "\"end_sample\":9223372036854775808"),
            ("\"clip_start_sample\":15000", "\"clip_start_sample\":18446744073709551615"),
            ("\"score\":0.9", "\"score\":1e39"),
            ("\"score\":0.9", "\"score\":-1"),
            ("\"snr_db\":30.0", "\"snr_db\":1e39"),
            ("\"cat\":\"Tom\"", "\"cat\":\"To\\nm\""),
        ] {
            assert!(comment.contains(good), "{good} in {comment}");
            assert_eq!(Story::read(&comment.replace(good, bad)), None, "{bad}");
        }
    }
}
