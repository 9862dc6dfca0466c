//! Metrics of queues, analyses, store, clips and notifications.

use std::sync::atomic::{AtomicU64, Ordering};

use daemon::metrics::{CallFamilies, Calls, Page};
use hub_base::clock::Standing;
use hub_base::time::now_ns;
use hub_listen::Live;
use hub_listen::analysis::AnalysisService;
use hub_owner::Outbox;
use hub_owner::channels::KINDS;
use hub_owner::outbox::{Counters, PerKind};
use hub_store::Store;
use hub_store::backup::Backups;
use hub_store::clips::Clips;

const STORE: CallFamilies = CallFamilies {
    ended: ("meowlink_hub_store_operations_total", "Operations of the database that ended, by kind and how."),
    latency: ("meowlink_hub_store_seconds", "Time that operations of the database took, the wait for a turn included."),
    under_way: ("meowlink_hub_store_in_flight", "Operations of the database that wait or are at work."),
};

pub(super) fn queues(page: &mut Page, live: &Live) {
    let (watchers, news) = live.watchers();
    page.gauge(
        "meowlink_hub_queue_items",
        "Items that wait or are being processed; for news, live updates that the slowest client has not read.",
    )
    .with(&[("queue", "audio")], live.audio_fill.items() as f64)
    .with(&[("queue", "reports")], live.report_fill.items() as f64)
    .with(&[("queue", "news")], news as f64);
    page.gauge("meowlink_hub_queue_bytes", "Bytes of audio that wait or are being processed.")
        .with(&[("queue", "audio")], live.audio_fill.bytes() as f64)
        .with(&[("queue", "reports")], live.report_fill.bytes() as f64);
    page.gauge("meowlink_hub_news_watchers", "Clients that read live updates.").value(watchers as f64);
}

pub(super) fn analyses(page: &mut Page, analyses: &AnalysisService) {
    let counters = analyses.counters();
    page.gauge("meowlink_hub_analyses_running", "Analyses on demand that run.").value(analyses.running() as f64);
    page.gauge("meowlink_hub_analyses_limit", "Analyses on demand that may run.").value(analyses.limit() as f64);
    page.counter("meowlink_hub_analyses_total", "Analyses on demand that ended, by result.")
        .with(&[("result", "complete")], get(&counters.complete))
        .with(&[("result", "partial")], get(&counters.partial))
        .with(&[("result", "failed")], get(&counters.failed))
        .with(&[("result", "refused")], get(&counters.refused));
}

pub(super) fn store(page: &mut Page, store: &Store) {
    Calls::write(page, &STORE, "operation", &[(&[], store.operations())]);
    let size = |path: &std::path::Path| std::fs::metadata(path).map_or(0, |file| file.len());
    let log = std::path::PathBuf::from(format!("{}-wal", store.path().display()));
    let bytes = size(store.path()) + size(&log);
    page.gauge("meowlink_hub_store_bytes", "Size of the database with its log.").value(bytes as f64);
    let paused = match store.clock().look() {
        Standing::Doubted { lasts } => Some(lasts),
        Standing::Synchronised | Standing::Agreed | Standing::Accepted => None,
    };
    page.gauge("meowlink_hub_clock_plausible", "1 while the wall clock is believed; deletion by age pauses otherwise.")
        .value(f64::from(u8::from(paused.is_none())));
    page.gauge("meowlink_hub_age_deletion_paused_seconds", "How long deletion by age has been paused. 0: it is not.")
        .value(paused.unwrap_or_default().as_secs_f64());
}

pub(super) async fn clips(page: &mut Page, store: &Store, clips: &Clips) {
    let (counters, config) = (clips.counters(), clips.config());
    page.counter("meowlink_hub_clips_total", "Clips by outcome: written, expired, or why none was written.")
        .with(&[("result", "written")], get(&counters.written))
        .with(&[("result", "disk_full")], get(&counters.disk_full))
        .with(&[("result", "speech")], get(&counters.speech))
        .with(&[("result", "write_failed")], get(&counters.write_failed))
        .with(&[("result", "expired")], get(&counters.expired))
        .with(&[("result", "missing")], get(&counters.missing))
        .with(&[("result", "damaged")], get(&counters.damaged));
    // Left out if the store does not answer. Its failed operations are counted.
    if let Ok(kept) = store.clip_totals().await {
        page.gauge("meowlink_hub_clips_kept", "Clips on disk.").value(kept.count as f64);
        page.gauge("meowlink_hub_clips_kept_bytes", "Bytes of all clips.").value(kept.bytes as f64);
    }
    page.gauge("meowlink_hub_clips_quota", "Clips that are kept at most.").value(config.keep_count as f64);
    page.gauge("meowlink_hub_clips_quota_bytes", "Bytes of clips that are kept at most.")
        .value(config.keep_mb as f64 * 1e6);
    page.gauge("meowlink_hub_disk_reserve_bytes", "Free bytes below which no clip is written.")
        .value(config.reserve_mb as f64 * 1e6);
    if let Some(free) = clips.disk_free_bytes().await {
        page.gauge("meowlink_hub_disk_free_bytes", "Free bytes on the disk of the data directory.").value(free as f64);
    }
}

pub(super) async fn backups(page: &mut Page, backups: &Backups) {
    let state = backups.state().await;
    let flag = |is: bool| f64::from(u8::from(is));
    if let Some(last) = &state.last {
        let age_s = now_ns().saturating_sub(last.made_at_ns).max(0) as f64 / 1e9;
        page.gauge("meowlink_hub_backup_age_seconds", "Age of the last good backup. Absent: none is known.")
            .value(age_s);
    }
    page.gauge("meowlink_hub_backup_only_on_data_disk", "1 while no known backup is on another device than the data.")
        .value(flag(state.only_on_data_disk));
    page.gauge("meowlink_hub_backup_failed", "1 if the last backup failed.").value(flag(state.failure.is_some()));
    page.gauge("meowlink_hub_snapshots", "Snapshots of the database in the data folder.").value(state.snapshots as f64);
    if let Some(check) = &state.check {
        page.gauge("meowlink_hub_database_intact", "1 if the last daily check found the database intact.")
            .value(flag(check.fault.is_none()));
    }
}

pub(super) async fn notices(page: &mut Page, store: Option<&Store>, outbox: Option<&Outbox>) {
    let counters = outbox.map(Outbox::counters);
    let of_kind = |figure: fn(&Counters) -> &PerKind, kind| counters.map_or(0.0, |all| figure(all).get(kind) as f64);
    let mut family =
        page.counter("meowlink_hub_notices_total", "Notifications that a channel accepted, or that were given up.");
    for kind in KINDS.iter().copied() {
        family
            .with(&[("channel", kind), ("result", "delivered")], of_kind(|all| &all.delivered, kind))
            .with(&[("channel", kind), ("result", "dead")], of_kind(|all| &all.dead, kind));
    }
    let help = "Deliveries of notifications that failed.";
    let mut family = page.counter("meowlink_hub_notice_failures_total", help);
    for kind in KINDS.iter().copied() {
        family.with(&[("channel", kind)], of_kind(|all| &all.failed, kind));
    }
    let count = |figure: fn(&Counters) -> &AtomicU64| counters.map_or(0.0, |all| get(figure(all)));
    page.counter(
        "meowlink_hub_notices_not_sent_total",
        "Notifications that were suppressed (cool-down, quiet hours, digest only) or dropped (outbox full).",
    )
    .with(&[("reason", "suppressed")], store.map_or(0.0, |store| store.suppressed_notifications() as f64))
    .with(&[("reason", "outbox_full")], store.map_or(0.0, |store| store.crowded_out_notifications() as f64));
    page.counter(
        "meowlink_hub_owner_calls_total",
        "Notify calls that were answered before they were stored (late), or that were never stored (dropped).",
    )
    .with(&[("outcome", "late")], count(|all| &all.calls_late))
    .with(&[("outcome", "dropped")], count(|all| &all.calls_dropped));
    // Left out if the store does not answer.
    if let Some(store) = store
        && let Ok(pending) = store.pending_notifications().await
    {
        let mut family = page.gauge("meowlink_hub_notices_pending", "Notifications that wait to be delivered.");
        for kind in KINDS.iter().copied() {
            let waiting = pending.iter().find(|(of, _)| of == kind).map_or(0, |(_, count)| *count);
            family.with(&[("channel", kind)], waiting as f64);
        }
    }
}

fn get(count: &AtomicU64) -> f64 {
    count.load(Ordering::Relaxed) as f64
}
