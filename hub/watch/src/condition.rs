//! The condition of each node: whether it is live, deaf or away. A deaf node answers but gives no sound, so it must not
//! look healthy: it shows in `/readyz` and `/metrics`, and, if it stays deaf, in the log and in a notification to its
//! owners.

use std::time::{Duration, Instant};

use hub_listen::Live;
use hub_listen::live::{NodeReport, NodeState};
use hub_nodes::Node;
use proto::SourceState;

/// Longest `no_sound_after_h`: a year.
const MOST_HOURS: u32 = 8_784;

/// Longest `tell_after_s`: a week.
const MOST_TELL_AFTER_S: u32 = 604_800;

/// `[health]` of the config file.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// A node that has heard nothing louder than a quiet room for this many hours counts as deaf, 1 to 8784.
    #[schemars(range(min = 1, max = MOST_HOURS))]
    pub no_sound_after_h: u32,
    /// Owners are notified of a node that has been deaf or away for this many seconds, 1 to 604800 (a week).
    #[schemars(range(min = 1, max = MOST_TELL_AFTER_S))]
    pub tell_after_s: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self { no_sound_after_h: 24, tell_after_s: 3_600 }
    }
}

impl HealthConfig {
    fn no_sound_after(&self) -> Duration {
        Duration::from_secs(u64::from(self.no_sound_after_h) * 3_600)
    }
}

/// The condition of a node. [`Ok`](Self::Ok) is live, [`Away`](Self::Away) is away, [`NoAudio`](Self::NoAudio) is never
/// heard, and all others are kinds of deaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Live: it hears, as far as the hub can tell.
    Ok,
    /// Away: it does not answer.
    Away,
    /// Deaf: it has no microphone.
    NoDevice,
    /// Deaf: its microphone gives nothing but zeros, because it is muted or broken.
    Silent,
    /// Deaf: the recording that it plays has ended.
    Ended,
    /// Deaf: it answers and sends no audio.
    Quiet,
    /// Deaf: its audio has had no sound for a long time.
    NoSound,
    /// It answers and cannot stream audio, like the cats of the original system. That is no trouble.
    NoAudio,
    /// Live, but the hub can store nothing of what it hears.
    NotStored,
}

impl Condition {
    /// All conditions.
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Away,
        Self::NoDevice,
        Self::Silent,
        Self::Ended,
        Self::Quiet,
        Self::NoSound,
        Self::NoAudio,
        Self::NotStored,
    ];

    /// Whether somebody should look after the node.
    pub fn is_trouble(self) -> bool {
        !matches!(self, Self::Ok | Self::NoAudio)
    }

    /// The word for it in `/readyz` and `/metrics`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Away => "away",
            Self::NoDevice => "no_device",
            Self::Silent => "silent",
            Self::Ended => "ended",
            Self::Quiet => "quiet",
            Self::NoSound => "no_sound",
            Self::NoAudio => "no_audio",
            Self::NotStored => "not_stored",
        }
    }

    /// The sentence for it in the log.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Self::Ok => "node is live",
            Self::Away => "node is away: the hub cannot reach it",
            Self::NoDevice | Self::Silent | Self::Ended | Self::Quiet => "node is deaf: no audio",
            Self::NoSound => "node is deaf: no sound",
            Self::NoAudio => "node answers and has no audio",
            Self::NotStored => "node is live, and nothing can be stored",
        }
    }
}

/// The condition of a node, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHealth {
    /// Its condition.
    pub condition: Condition,
    /// One sentence about it, or empty.
    pub detail: String,
    /// Ages from live listening. `None`: this process does not listen to it.
    pub heard: Option<HeardAges>,
}

/// How old the audio from a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeardAges {
    /// Time since audio came. If none ever did, since the hub has known the node.
    pub audio: Duration,
    /// Time since there was a sound in it, or since the hub has known the node.
    pub sound: Duration,
    /// Age of the latest audio when it was analysed.
    pub lag: Duration,
}

impl NodeHealth {
    /// Judges a node by its recent description and by what is heard of it.
    pub fn of(node: &Node, live: Option<&Live>, config: &HealthConfig) -> Self {
        let watched = live.and_then(|live| {
            let nodes = live.nodes();
            let watched = nodes.iter().find(|watched| watched.name() == node.url())?;
            Some((watched.report(), watched.since()))
        });
        let described = node.recent_description();
        let source = described.as_ref().map(|described| (described.state, described.detail.as_str()));
        let now = Instant::now();
        let heard = watched.as_ref().map(|(report, since)| HeardAges::of(report, *since, now));
        if source.is_some() && !node.has_audio() {
            let detail = "the node answers and has no audio: its program does not stream".into();
            return Self { condition: Condition::NoAudio, detail, heard };
        }
        let (condition, detail) = judge(source, watched.as_ref().map(|(report, _)| report), heard, config);
        Self { condition, detail, heard }
    }
}

impl NodeHealth {
    /// The same node while the store fails, for `why`. Listening waits then, and what the node hears goes no further
    /// than its tape.
    pub(crate) fn while_nothing_is_stored(self, why: &str) -> Self {
        match self.condition {
            Condition::Ok | Condition::Quiet if self.heard.is_some() => {
                Self { condition: Condition::NotStored, detail: why.to_owned(), ..self }
            }
            _ => self,
        }
    }
}

impl HeardAges {
    fn of(report: &NodeReport, since: Instant, now: Instant) -> Self {
        Self {
            audio: now.saturating_duration_since(report.heard_at.unwrap_or(since)),
            sound: now.saturating_duration_since(report.sound_at.unwrap_or(since)),
            lag: Duration::from_millis(report.lag_ms),
        }
    }
}

/// `source`: state and detail from the recent description. `None`: the node does not answer.
fn judge(
    source: Option<(SourceState, &str)>,
    report: Option<&NodeReport>,
    heard: Option<HeardAges>,
    config: &HealthConfig,
) -> (Condition, String) {
    let Some((state, detail)) = source else {
        let why = report.map(|report| report.error.clone()).filter(|why| !why.is_empty());
        return (Condition::Away, why.unwrap_or_else(|| "the node does not answer".into()));
    };
    let or = |sentence: &str| if detail.is_empty() { sentence.to_owned() } else { detail.to_owned() };
    match state {
        SourceState::NoDevice => return (Condition::NoDevice, or("the node has no microphone")),
        SourceState::Silent => return (Condition::Silent, or("the microphone gives nothing but zeros")),
        SourceState::Ended => return (Condition::Ended, or("the recording has ended")),
        SourceState::Unspecified | SourceState::Starting | SourceState::Capturing => {}
    }
    let Some((report, heard)) = report.zip(heard) else { return (Condition::Ok, String::new()) };
    match report.state {
        NodeState::Away => return (Condition::Away, report.error.clone()),
        NodeState::Quiet => return (Condition::Quiet, "the node is connected and sends no audio".into()),
        NodeState::Connecting | NodeState::CatchingUp | NodeState::Live => {}
    }
    if heard.sound >= config.no_sound_after() {
        let detail = format!("nothing louder than a quiet room for {} h", heard.sound.as_secs() / 3_600);
        return (Condition::NoSound, detail);
    }
    (Condition::Ok, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn heard(state: NodeState, sound: Duration) -> (NodeReport, HeardAges) {
        let report = NodeReport { state, error: "gone".into(), ..NodeReport::default() };
        (report, HeardAges { audio: Duration::ZERO, sound, lag: Duration::ZERO })
    }

    #[test]
    fn node_that_answers_and_is_deaf_is_not_ok() {
        use Condition::*;
        let recent = Duration::from_secs(5);
        for (source, state, sound, expected) in [
            (Some(SourceState::Capturing), NodeState::Live, recent, Ok),
            (Some(SourceState::Capturing), NodeState::CatchingUp, recent, Ok),
            // Started a moment ago.
            (Some(SourceState::Starting), NodeState::Connecting, recent, Ok),
            (Some(SourceState::NoDevice), NodeState::Live, recent, NoDevice),
            (Some(SourceState::Silent), NodeState::Live, recent, Silent),
            (Some(SourceState::Ended), NodeState::Quiet, recent, Ended),
            (Some(SourceState::Capturing), NodeState::Quiet, recent, Quiet),
            (Some(SourceState::Capturing), NodeState::Away, recent, Away),
            (Some(SourceState::Capturing), NodeState::Live, 7 * DAY, NoSound),
            (None, NodeState::Live, recent, Away),
        ] {
            let (report, ages) = heard(state, sound);
            let source = source.map(|state| (state, ""));
            let (condition, detail) = judge(source, Some(&report), Some(ages), &HealthConfig::default());
            assert_eq!(condition, expected, "{source:?} {state:?} {sound:?}");
            assert_eq!(detail.is_empty(), condition == Ok, "{condition:?}: {detail}");
        }
    }

    #[test]
    fn node_whose_sound_is_not_stored_is_not_ok() {
        let ages = HeardAges { audio: DAY, sound: DAY, lag: Duration::ZERO };
        let health = |condition, heard| NodeHealth { condition, detail: String::new(), heard };
        let judged = |condition, heard| health(condition, heard).while_nothing_is_stored("disk full").condition;
        assert_eq!(judged(Condition::Ok, Some(ages)), Condition::NotStored);
        assert_eq!(judged(Condition::Away, Some(ages)), Condition::Away, "the nearer reason stays");
        assert_eq!(judged(Condition::Ok, None), Condition::Ok, "this process stores nothing of it");
    }

    #[test]
    fn without_listening_the_nodes_word_counts() {
        let judged = |state| judge(Some((state, "unplugged")), None, None, &HealthConfig::default());
        assert_eq!(judged(SourceState::Capturing), (Condition::Ok, String::new()));
        assert_eq!(judged(SourceState::NoDevice), (Condition::NoDevice, "unplugged".into()));
    }
}
