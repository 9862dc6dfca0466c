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

const STATES: [NodeState; 5] =
    [NodeState::Connecting, NodeState::CatchingUp, NodeState::Live, NodeState::Quiet, NodeState::Away];

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
    page.counter("meowlink_hub_nodes_refused_total", "Nodes that were found and not taken: there are too many.")
        .value(nodes.refused() as f64);
    known(page, shown);
    let help = "1 for how the node is, as in /readyz: ok, or why it hears nothing.";
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
    let help = "Always 1; the labels say what may change about a node: its cat, and the boot that it is in.";
    let mut family = page.gauge("meowlink_hub_node_info", help);
    for node in nodes {
        let described = node.description();
        let boot_id = described.as_ref().map_or_else(String::new, |described| format!("{:016x}", described.boot_id));
        let version = described.map_or_else(String::new, |described| described.version);
        let cat = node.cat().unwrap_or_default();
        family.with(&[("node", node.url()), ("cat", &cat), ("boot_id", &boot_id), ("version", &version)], 1.0);
    }
    let mut family = page.gauge("meowlink_hub_node_up", "1 when the node has just described itself.");
    for node in nodes {
        family.with(&[("node", node.url())], f64::from(u8::from(node.recent_description().is_some())));
    }
    let help = "1 for the state that the node's source is in, as it said last; silent is nothing but zeros.";
    let mut family = page.gauge("meowlink_hub_node_source_state", help);
    for node in nodes {
        let state = node.description().map_or(SourceState::Unspecified, |described| described.state);
        family.states(&[("node", node.url())], &SOURCE_STATES.map(state_word), state_word(state));
    }
}

fn listening(page: &mut Page, heard: &[ListenedNode]) {
    let mut family = page.gauge("meowlink_hub_node_state", "1 for the state that listening to the node is in.");
    for ListenedNode { node, report, .. } in heard {
        family.states(&[("node", node)], &STATES.map(NodeState::as_str), report.state.as_str());
    }
    let help = "Time since audio of the node was analysed, or since the hub knows the node when none was.";
    each(&mut page.gauge("meowlink_hub_node_last_audio_age_seconds", help), heard, |heard| {
        age(heard.report.heard_at.unwrap_or(heard.since))
    });
    let help = "Time since the node heard anything louder than a quiet room, or since the hub knows it.";
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
        ("meowlink_hub_node_score", "How much it sounds like a cat now, 0 to 1.", |level| level.score),
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
    let help = "Frames that came twice and were taken once.";
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
    let help = "Connections to the node that ended.";
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
