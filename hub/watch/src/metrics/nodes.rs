//! Metrics of each node.

use std::time::{Duration, Instant};

use daemon::metrics::{CallFamilies, Calls, Family, Page};
use hub_listen::Live;
use hub_listen::live::{NodeReport, NodeState};
use hub_nodes::{Node, Nodes, state_word};
use hub_store::events::GapReason;
use proto::SourceState;
use sound::detection::ContextLabel;

use crate::condition::{Condition, HealthConfig, NodeHealth};

const CALLS: CallFamilies = CallFamilies {
    ended: ("meowlink_hub_node_calls_total", "Calls to nodes that ended, by method and the API's word for the error."),
    latency: ("meowlink_hub_node_call_seconds", "Time that calls to nodes took; of a stream, until it began."),
    under_way: ("meowlink_hub_node_calls_in_flight", "Calls to nodes under way; a stream counts until it has begun."),
};

const SOURCE_STATES: [SourceState; 6] = [
    SourceState::Unspecified,
    SourceState::Starting,
    SourceState::Capturing,
    SourceState::Silent,
    SourceState::NoDevice,
    SourceState::Ended,
];

/// Live listening to one node.
struct ListenedNode {
    node: String,
    since: Instant,
    report: NodeReport,
}

/// `trouble`: why nothing can be stored, if so.
pub(super) fn write(page: &mut Page, nodes: &Nodes, live: Option<&Live>, health: &HealthConfig, trouble: Option<&str>) {
    // At most `MAX_NODES`, which bounds the number of series.
    let shown = &nodes.distinct();
    page.gauge("meowlink_hub_nodes", "Nodes that the hub knows.").value(shown.len() as f64);
    page.gauge("meowlink_hub_nodes_waiting", "Discovered nodes that wait until somebody admits them.")
        .value(nodes.waiting().len() as f64);
    page.counter(
        "meowlink_hub_nodes_refused_total",
        "Announced nodes that were turned away: too many nodes, too many waiting, or an id that is not proved.",
    )
    .value(nodes.refused() as f64);
    known(page, shown);
    let help = "1 for the condition of the node, as in /readyz: ok, away, or why it is deaf; 0 for the others.";
    let mut family = page.gauge("meowlink_hub_node_condition", help);
    for node in shown {
        let health = NodeHealth::of(node, live, health);
        let condition = trouble.map_or(health.clone(), |why| health.while_nothing_is_stored(why)).condition;
        family.states(&[("node", node.url())], &Condition::ALL.map(Condition::as_str), condition.as_str());
    }
    let calls: Vec<_> = shown.iter().map(|node| ([("node", node.url())], node.calls())).collect();
    let calls: Vec<_> = calls.iter().map(|(labels, calls)| (&labels[..], *calls)).collect();
    Calls::write(page, &CALLS, "method", &calls);
    if let Some(live) = live {
        let heard: Vec<ListenedNode> = live
            .nodes()
            .iter()
            .filter(|watched| shown.iter().any(|node| node.url() == watched.name()))
            .map(|node| ListenedNode { node: node.name().to_owned(), since: node.since(), report: node.report() })
            .collect();
        listening(page, &heard);
        losses(page, &heard);
        findings(page, &heard);
    }
}

/// How the nodes describe themselves.
fn known(page: &mut Page, nodes: &[Node]) {
    let help = "Always 1; the labels hold what can change about a node: its cat, boot id and version.";
    let mut family = page.gauge("meowlink_hub_node_info", help);
    for node in nodes {
        let described = node.description();
        let boot_id = described.as_ref().map_or_else(String::new, |described| format!("{:016x}", described.boot_id));
        let version = described.map_or_else(String::new, |described| described.version);
        let cat = node.cat().unwrap_or_default();
        let id = node.id().map_or_else(String::new, |id| id.to_string());
        let labels =
            [("node", node.url()), ("node_id", &id), ("cat", &cat), ("boot_id", &boot_id), ("version", &version)];
        family.with(&labels, 1.0);
    }
    let mut family = page.gauge("meowlink_hub_node_up", "1 if the node has answered recently, else 0.");
    for node in nodes {
        family.with(&[("node", node.url())], f64::from(u8::from(node.recent_description().is_some())));
    }
    let help = "1 for the state of the node's audio source, as last reported; silent: it delivers only zeros.";
    let mut family = page.gauge("meowlink_hub_node_source_state", help);
    for node in nodes {
        let state = node.description().map_or(SourceState::Unspecified, |described| described.state);
        family.states(&[("node", node.url())], &SOURCE_STATES.map(state_word), state_word(state));
    }
}

fn listening(page: &mut Page, heard: &[ListenedNode]) {
    let mut family =
        page.gauge("meowlink_hub_node_state", "1 for the state of live listening to the node, 0 for the others.");
    for ListenedNode { node, report, .. } in heard {
        family.states(&[("node", node)], &NodeState::ALL.map(NodeState::as_str), report.state.as_str());
    }
    let help = "Time since audio of the node was last analysed; before the first, since the hub has known the node.";
    each(&mut page.gauge("meowlink_hub_node_last_audio_age_seconds", help), heard, |heard| {
        age(heard.report.heard_at.unwrap_or(heard.since))
    });
    let help =
        "Time since the node heard anything louder than a quiet room; before the first, since the hub has known it.";
    each(&mut page.gauge("meowlink_hub_node_last_sound_age_seconds", help), heard, |heard| {
        age(heard.report.sound_at.unwrap_or(heard.since))
    });
    let help = "Age that audio had when it was analysed.";
    each(&mut page.gauge("meowlink_hub_node_lag_seconds", help), heard, |heard| {
        Duration::from_millis(heard.report.lag_ms).as_secs_f64()
    });
    type Figure = fn(&hub_listen::live::LiveLevel) -> f32;
    let levels: [(&'static str, &str, Figure); 3] = [
        ("meowlink_hub_node_level_rms_dbfs", "Root mean square of the last 0.2 s.", |level| level.rms_dbfs),
        ("meowlink_hub_node_level_peak_dbfs", "Highest sample of the last 0.2 s.", |level| level.peak_dbfs),
        (
            "meowlink_hub_node_score",
            "Detection score of the latest audio: how likely it contains a cat, 0 to 1.",
            |level| level.score,
        ),
    ];
    for (name, help, figure) in levels {
        let mut family = page.gauge(name, help);
        for ListenedNode { node, report, .. } in heard {
            if let Some(level) = &report.level {
                family.with(&[("node", node)], f64::from(figure(level)));
            }
        }
    }
}

fn losses(page: &mut Page, heard: &[ListenedNode]) {
    let help = "Frames of 20 ms that were analysed.";
    each(&mut page.counter("meowlink_hub_node_frames_total", help), heard, |heard| heard.report.frames as f64);
    let help = "Frames that arrived more than once; the copies are ignored.";
    each(&mut page.counter("meowlink_hub_node_duplicate_frames_total", help), heard, |heard| {
        heard.report.duplicate_frames as f64
    });
    each(&mut page.counter("meowlink_hub_node_gaps_total", "Stretches of lost audio."), heard, |heard| {
        heard.report.gaps as f64
    });
    let help =
        "Frames never analysed, by reason; losses from earlier boots are excluded because their count is unknown.";
    let mut family = page.counter("meowlink_hub_node_frames_lost_total", help);
    for ListenedNode { node, report, .. } in heard {
        for reason in GapReason::ALL.map(GapReason::as_str) {
            let lost = report.lost_frames.get(reason).copied().unwrap_or(0);
            family.with(&[("node", node), ("reason", reason)], lost as f64);
        }
    }
    let help = "Established connections to the node that ended; failed attempts do not count.";
    each(&mut page.counter("meowlink_hub_node_disconnects_total", help), heard, |heard| {
        heard.report.disconnects as f64
    });
}

fn findings(page: &mut Page, heard: &[ListenedNode]) {
    let mut family = page.counter("meowlink_hub_node_events_total", "Cat events that were found, by context.");
    for ListenedNode { node, report, .. } in heard {
        for context in ContextLabel::ALL.map(ContextLabel::as_str) {
            let found = report.events_by_context.get(context).copied().unwrap_or(0);
            family.with(&[("node", node), ("context", context)], found as f64);
        }
    }
}

fn each(family: &mut Family<'_>, heard: &[ListenedNode], value: impl Fn(&ListenedNode) -> f64) {
    for heard in heard {
        family.with(&[("node", &heard.node)], value(heard));
    }
}

fn age(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}
