//! `Describe`: what the node is, its source and its state.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use daemon::identity::{CHALLENGE_BYTES, OwnKey, prove};
use proto::{DescribeResponse, Encoding, LevelInfo, NodeCounters, SourceInfo, TapeInfo};

use tonic::Status;

use crate::node::Node;

/// Describes the node to a caller that reached it at `address` with `challenge`.
///
/// # Errors
/// If the challenge has a wrong length.
pub(super) fn description(
    node: &Node,
    challenge: &[u8],
    address: Option<SocketAddr>,
) -> Result<DescribeResponse, Status> {
    let challenge: Option<&[u8; CHALLENGE_BYTES]> = match challenge {
        [] => None,
        bytes => Some(bytes.try_into().map_err(|_| {
            Status::invalid_argument(format!("the challenge has {} bytes, not {CHALLENGE_BYTES}", bytes.len()))
        })?),
    };
    // Read once: the key may change meanwhile.
    let own = node.key.as_ref().map(OwnKey::present);
    let proof =
        own.as_ref().zip(challenge).zip(address).map_or_else(Vec::new, |(((key, _), challenge), address)| {
            prove(key, challenge, node.tape.boot_id(), address)
        });
    let clock = node.tape.clock();
    let uptime_ns = clock.now_ns();
    Ok(DescribeResponse {
        version: env!("CARGO_PKG_VERSION").into(),
        cat_name: node.cat.clone(),
        boot_id: node.tape.boot_id(),
        uptime_ns,
        unix_ns: clock.wall().map_or(0, |wall| wall.unix_ns(uptime_ns)),
        source: Some(source(node, uptime_ns)),
        tape: Some(tape(node)),
        counters: Some(counters(node)),
        level: Some(level(node)),
        encodings: vec![Encoding::PcmS16le.into(), Encoding::Flac.into()],
        public_key: own.as_ref().map_or_else(Vec::new, |(key, _)| key.spki().to_vec()),
        proof,
        key_changes: own.map_or_else(Vec::new, |(_, history)| history.statements().to_vec()),
    })
}

fn source(node: &Node, now_ns: u64) -> SourceInfo {
    let source = node.status.source();
    let last_frame_ns = node.status.last_frame_ns();
    let age_ns = if last_frame_ns == 0 { 0 } else { now_ns.saturating_sub(last_frame_ns) };
    SourceInfo {
        kind: source.kind.into(),
        device: source.device,
        sample_rate_hz: source.format.map_or(0, |format| format.sample_rate_hz),
        channels: source.format.map_or(0, |format| format.channels.into()),
        state: source.state.into(),
        detail: source.detail,
        last_frame_age_ms: age_ns / 1_000_000,
    }
}

fn tape(node: &Node) -> TapeInfo {
    let extent = node.tape.extent();
    TapeInfo {
        oldest_sequence: extent.oldest_sequence,
        next_sequence: extent.next_sequence,
        capacity_frames: extent.capacity_frames,
        bytes: extent.bytes,
    }
}

fn counters(node: &Node) -> NodeCounters {
    let counters = &node.status.counters;
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    NodeCounters {
        frames_captured: get(&counters.frames_captured),
        frames_lost_device: get(&counters.frames_lost_device),
        frames_lost_overrun: get(&counters.frames_lost_overrun),
        overruns: get(&counters.overruns),
        clipped_samples: get(&counters.clipped_samples),
        source_restarts: get(&counters.source_restarts),
        subscribers: counters.subscribers.load(Ordering::Relaxed),
        frames_lost_to_subscribers: get(&counters.frames_lost_to_subscribers),
        owner_failures: get(&counters.owner_failures),
        flac_sample_bytes: get(&counters.flac_sample_bytes),
        flac_coded_bytes: get(&counters.flac_coded_bytes),
    }
}

fn level(node: &Node) -> LevelInfo {
    let (rms_dbfs, peak_dbfs) = node.status.level_dbfs();
    LevelInfo { rms_dbfs, peak_dbfs }
}
