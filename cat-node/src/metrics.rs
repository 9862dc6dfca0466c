//! The page of `/metrics`: the counters of [`crate::status`], the tape, the calls and the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daemon::metrics::{CallFamilies, Calls, Meter, Page, build_info, process};
use proto::SourceState;

use crate::node::Node;
use crate::tape::FRAME_BYTES;

/// Methods whose calls are counted by name. All others are counted as "other".
const METHODS: [&str; 6] = [
    "proto.cat/CallCat",
    "proto.cat/AnalyzeCatSound",
    "proto.cat/Listen",
    "proto.cat/Describe",
    "grpc.health.v1.Health/Check",
    "grpc.health.v1.Health/Watch",
];

const RPCS: CallFamilies = CallFamilies {
    ended: ("meowlink_node_rpcs_total", "Calls that ended, by method and gRPC code."),
    latency: ("meowlink_node_rpc_seconds", "Time from a call to the start of its answer."),
    under_way: (
        "meowlink_node_rpcs_in_flight",
        "Calls that have not ended; a subscriber's call lasts as long as it listens.",
    ),
};

const STATES: [SourceState; 5] =
    [SourceState::Starting, SourceState::Capturing, SourceState::Silent, SourceState::NoDevice, SourceState::Ended];

/// Counts the calls on a node's port, and serves the page there.
pub fn meter(node: Arc<Node>) -> Meter {
    let calls = Arc::new(Calls::new(METHODS));
    let counted = Arc::clone(&calls);
    let render = move || {
        let text = page(&node, &counted);
        Box::pin(std::future::ready(text)) as _
    };
    Meter::new(calls, Arc::new(render))
}

fn page(node: &Node, calls: &Calls) -> String {
    let mut page = Page::default();
    build_info(&mut page, "meowlink_node_build_info", env!("CARGO_PKG_VERSION"));
    node_info(&mut page, node);
    source(&mut page, node);
    losses(&mut page, node);
    tape(&mut page, node);
    owner(&mut page, node);
    Calls::write(&mut page, &RPCS, "method", &[(&[], calls)]);
    process(&mut page);
    page.into_text()
}

fn node_info(page: &mut Page, node: &Node) {
    let source = node.status.source();
    let boot_id = format!("{:016x}", node.tape.boot_id());
    let labels =
        [("cat", node.cat.as_str()), ("boot_id", &boot_id), ("source", source.kind), ("device", &source.device)];
    page.gauge("meowlink_node_info", "Always 1; the labels say which node it is.").with(&labels, 1.0);
    let uptime_s = seconds(node.tape.clock().now_ns());
    page.gauge("meowlink_node_uptime_seconds", "Time since the node started, by its monotonic clock.").value(uptime_s);
}

fn source(page: &mut Page, node: &Node) {
    let status = &node.status;
    let source = status.source();
    let holds = state_word(source.state);
    page.gauge(
        "meowlink_node_source_state",
        "1 for the state of the source, 0 for the others; silent: it delivers only zeros.",
    )
    .states(&[], &STATES.map(state_word), holds);
    let rate_hz = source.format.map_or(0, |format| format.sample_rate_hz);
    page.gauge("meowlink_node_source_sample_rate_hertz", "Samples per second and channel of the source; 0: not open.")
        .value(f64::from(rate_hz));
    // 0: there was no frame, so it has no age.
    if status.last_frame_ns() > 0 {
        let help = "Time since the last frame was captured; absent before the first.";
        let age_ns = node.tape.clock().now_ns().saturating_sub(status.last_frame_ns());
        page.gauge("meowlink_node_last_frame_age_seconds", help).value(seconds(age_ns));
    }
    let (rms_dbfs, peak_dbfs) = status.level_dbfs();
    page.gauge("meowlink_node_level_rms_dbfs", "Root mean square of the last second, in dB of full scale.")
        .value(f64::from(rms_dbfs));
    page.gauge("meowlink_node_level_peak_dbfs", "Highest sample of the last second, in dB of full scale.")
        .value(f64::from(peak_dbfs));
    let help = "Audio that the last read of the source found; the ring of a microphone holds 2 s.";
    page.gauge("meowlink_node_ring_seconds", help).value(seconds(status.waited_ns()));
    let counters = &status.counters;
    let help = "Times that the source was opened again after a failure.";
    counter(page, "meowlink_node_source_restarts_total", help, &counters.source_restarts);
    let help = "Samples at full scale, after the gain.";
    counter(page, "meowlink_node_clipped_samples_total", help, &counters.clipped_samples);
}

fn losses(page: &mut Page, node: &Node) {
    let counters = &node.status.counters;
    let help = "Frames of 20 ms that went onto the tape.";
    counter(page, "meowlink_node_frames_captured_total", help, &counters.frames_captured);
    page.counter("meowlink_node_frames_lost_total", "Frames that were never captured, by reason.")
        .with(&[("reason", "device")], get(&counters.frames_lost_device))
        .with(&[("reason", "overrun")], get(&counters.frames_lost_overrun));
    let help = "Overruns that the device or the ring reported.";
    counter(page, "meowlink_node_overruns_total", help, &counters.overruns);
    let subscribers = counters.subscribers.load(Ordering::Relaxed);
    page.gauge("meowlink_node_subscribers", "Subscribers now.").value(f64::from(subscribers));
    let help = "Frames that left the tape before a subscriber had read them.";
    counter(page, "meowlink_node_subscriber_frames_lost_total", help, &counters.frames_lost_to_subscribers);
    let help = "Bytes of samples that were sent as FLAC, before coding.";
    counter(page, "meowlink_node_flac_sample_bytes_total", help, &counters.flac_sample_bytes);
    let help = "Bytes of the same samples, after coding.";
    counter(page, "meowlink_node_flac_coded_bytes_total", help, &counters.flac_coded_bytes);
}

fn tape(page: &mut Page, node: &Node) {
    let extent = node.tape.extent();
    let held = extent.next_sequence - extent.oldest_sequence;
    page.gauge("meowlink_node_tape_frames", "Frames on the tape, including those in gaps.").value(held as f64);
    page.gauge("meowlink_node_tape_capacity_frames", "Frames that fit into the memory of the tape.")
        .value(extent.capacity_frames as f64);
    page.gauge("meowlink_node_tape_bytes", "Bytes of memory that the audio on the tape takes, packed or not.")
        .value(extent.bytes as f64);
    page.gauge("meowlink_node_tape_capacity_bytes", "Bytes of memory that a full tape would take, unpacked.")
        .value((extent.capacity_frames * FRAME_BYTES as u64) as f64);
    let spill = node.tape.spill_counts().unwrap_or_default();
    page.gauge("meowlink_node_spill_bytes", "Bytes of the tape on disk.").value(spill.bytes as f64);
    page.counter("meowlink_node_spill_failures_total", "Times that the disk of the tape failed or was too slow.")
        .value(spill.failures as f64);
    page.counter("meowlink_node_spill_frames_lost_total", "Frames that left memory and did not get to disk.")
        .value(spill.lost_frames as f64);
}

fn owner(page: &mut Page, node: &Node) {
    let help = "Calls to the owner that failed.";
    counter(page, "meowlink_node_owner_failures_total", help, &node.status.counters.owner_failures);
    page.histogram("meowlink_node_owner_seconds", "Time that calls to the owner took, failed ones too.")
        .durations(&[], node.owner.latency());
}

fn counter(page: &mut Page, name: &'static str, help: &str, count: &AtomicU64) {
    page.counter(name, help).value(get(count));
}

fn get(count: &AtomicU64) -> f64 {
    count.load(Ordering::Relaxed) as f64
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn state_word(state: SourceState) -> &'static str {
    match state {
        SourceState::Unspecified | SourceState::Starting => "starting",
        SourceState::Capturing => "capturing",
        SourceState::Silent => "silent",
        SourceState::NoDevice => "no_device",
        SourceState::Ended => "ended",
    }
}
