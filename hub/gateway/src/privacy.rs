//! `/api/v1/privacy`: what the hub stores, where and how long. `/api/v1/deletions`: deletes everything about a cat, or
//! everything before a time.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use hub_base::time::rfc3339;
use hub_listen::REMEMBER_DELETED_DAYS;
use hub_people::SESSION_DAYS;
use hub_store::backup::{SNAPSHOTS_KEPT, copies_aside};
use hub_store::clips::{
    LABELLED_KEEP_BYTES, LABELLED_KEEP_COUNT, LABELLED_KEEP_EVENTS, QUARANTINE_KEEP_BYTES, QUARANTINE_KEEP_DAYS,
};
use hub_store::deletions::{Deletion, DeletionCounts, DeletionScope};
use hub_store::notifications::MAX_NOTIFICATIONS;
use hub_store::people::{AUDIT_DAYS, MAX_AUDIT_ENTRIES};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::gate::about;
use crate::json::{Failure, Line, Problem};
use crate::params::Body;
use crate::privacy_settings::PrivacySettings;

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(privacy)).routes(routes!(delete))
}

/// What the hub stores, where and how long, by the settings in effect.
#[derive(Debug, Serialize, ToSchema)]
struct PrivacyAnswer {
    /// The folder that holds everything but backups.
    data_dir: String,
    /// Recordings of events, in the folder `clips`.
    clips: ClipsStored,
    /// What was heard and when, in the database `hub.sqlite`, and the owner's labels, there and in `labels.jsonl`.
    events: EventsStored,
    /// Notifications to owners, in the database.
    notifications: NotificationsStored,
    /// Recordings without an event, in the folder `quarantine`: what a lost database leaves.
    quarantine: QuarantineStored,
    /// Daily copies of the database, in the folder `snapshots`.
    snapshots: SnapshotsStored,
    /// Backups: copies of everything outside the data folder.
    backups: BackupsStored,
    /// Who did what, in the database.
    audit_log: AuditStored,
    /// After how many days without use a browser is logged out.
    session_days: i64,
    /// Live audio. The hub does not store it.
    live_audio: LiveAudio,
    /// Files and folders in the data folder that the hub does not use or change: damaged databases that were moved
    /// aside, and what was there before a restore. They still hold what they held.
    other_copies: Vec<String>,
    /// The deletions that were asked for, the latest first, at most 50.
    deletions: Vec<DeletionAnswer>,
}

/// Recordings of events.
#[derive(Debug, Serialize, ToSchema)]
struct ClipsStored {
    /// Whether the hub writes recordings at all.
    enabled: bool,
    /// Number of recordings now.
    count: u64,
    /// Bytes of all recordings now.
    bytes: u64,
    /// Seconds of sound before an event that are recorded, at most.
    before_s: f64,
    /// Seconds of sound after an event that are recorded, at most.
    after_s: f64,
    /// Longest recording without these, in seconds.
    longest_s: u32,
    /// Whether speech before and after an event is cut off, and recordings that are mostly speech are not written.
    speech_cut_off: bool,
    /// After how many days a recording without a label is deleted. Null: when there are too many.
    keep_days: Option<u32>,
    /// Most recordings without a label. The oldest are deleted.
    keep_count: u64,
    /// Most bytes of recordings without a label. The oldest are deleted.
    keep_bytes: u64,
    /// Most recordings with a label. No age limits them.
    labelled_keep_count: u64,
    /// Most bytes of recordings with a label.
    labelled_keep_bytes: u64,
}

/// Events.
#[derive(Debug, Serialize, ToSchema)]
struct EventsStored {
    /// After how many days an event without a label is deleted. Null: when there are too many.
    keep_days: Option<u32>,
    /// Most events. The oldest are deleted.
    keep_count: u64,
    /// Most events with a label. No age limits them.
    labelled_keep_count: u64,
    /// How many days the place of a deleted event in the sound of its node is remembered, so that the event does not
    /// come back.
    deleted_keep_days: i64,
}

/// Notifications.
#[derive(Debug, Serialize, ToSchema)]
struct NotificationsStored {
    /// After how many days a notification is deleted.
    keep_days: u32,
    /// Most notifications. The oldest are deleted.
    keep_count: i64,
}

/// Recordings without an event.
#[derive(Debug, Serialize, ToSchema)]
struct QuarantineStored {
    /// After how many days with the hub running a recording is deleted.
    keep_days: u32,
    /// Most bytes. The oldest are deleted.
    keep_bytes: u64,
}

/// Copies of the database.
#[derive(Debug, Serialize, ToSchema)]
struct SnapshotsStored {
    /// Most snapshots. One is made each day.
    keep_count: usize,
}

/// Backups.
#[derive(Debug, Serialize, ToSchema)]
struct BackupsStored {
    /// The folder for a backup every night. Null: there is none.
    to: Option<String>,
    /// Backups that the folder keeps.
    keep_count: u32,
}

/// The audit log.
#[derive(Debug, Serialize, ToSchema)]
struct AuditStored {
    /// After how many days an entry is deleted.
    keep_days: u32,
    /// Most entries. The oldest are deleted.
    keep_count: i64,
}

/// Live audio.
#[derive(Debug, Serialize, ToSchema)]
struct LiveAudio {
    /// Whether the page and the API play live audio.
    enabled: bool,
    /// Who may hear it: `listener`, those with this role or a higher one; or `everyone` who reaches the hub, because it
    /// has no users. Null: nobody.
    who: Option<&'static str>,
    /// How many hear it now. `/api/v1/listening` names them.
    listening_now: usize,
}

/// What to delete. At least one of `cat` and `before` is needed. With both, the events of the cat that began before the
/// time are deleted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DeletionBody {
    /// Name of the cat.
    cat: Option<String>,
    /// Delete what began before this time, RFC 3339.
    before: Option<String>,
    /// Only count what would be deleted.
    #[serde(default)]
    #[schema(default = false)]
    dry_run: bool,
}

/// A deletion, and how far it is.
#[derive(Debug, Serialize, ToSchema)]
struct DeletionAnswer {
    /// Number of the deletion. Null: it is a preview.
    id: Option<i64>,
    /// Name of the cat. Null: every cat; or the deletion is done, and the name is forgotten.
    cat: Option<String>,
    /// Whether it is about one cat.
    of_cat: bool,
    /// What began before this time is deleted, RFC 3339 in UTC. Null: whatever the time.
    before: Option<String>,
    /// `preview`: nothing is deleted. `running`, or `done`.
    state: &'static str,
    /// When it was asked for, RFC 3339 in UTC. What came later stays. Null: it is a preview.
    requested_at: Option<String>,
    /// When it was done, RFC 3339 in UTC. Null: it is not.
    ended_at: Option<String>,
    /// How much has been deleted so far; for a preview, how much would be.
    deleted: DeletedCounts,
    /// What the hub does not delete, for people.
    not_deleted: String,
}

/// How much is deleted.
#[derive(Debug, Serialize, ToSchema)]
struct DeletedCounts {
    /// Events.
    events: u64,
    /// Their recordings.
    clips: u64,
    /// Their labels.
    labels: u64,
    /// Notifications.
    notifications: u64,
    /// Analyses.
    analyses: u64,
    /// Recordings in the quarantine, and events in snapshots. A preview does not count them.
    copies: u64,
}

impl From<DeletionCounts> for DeletedCounts {
    fn from(counts: DeletionCounts) -> Self {
        let DeletionCounts { events, clips, labels, notifications, analyses, copies } = counts;
        Self { events, clips, labels, notifications, analyses, copies }
    }
}

impl DeletionAnswer {
    fn of(deletion: Deletion, settings: &PrivacySettings) -> Self {
        Self {
            id: Some(deletion.id),
            cat: deletion.scope.cat,
            of_cat: deletion.of_cat,
            before: deletion.scope.before_ns.map(rfc3339),
            state: if deletion.ended_at_ns.is_some() { "done" } else { "running" },
            requested_at: Some(rfc3339(deletion.requested_at_ns)),
            ended_at: deletion.ended_at_ns.map(rfc3339),
            deleted: deletion.counts.into(),
            not_deleted: settings.not_deleted(),
        }
    }

    fn preview(scope: DeletionScope, counts: DeletionCounts, settings: &PrivacySettings) -> Self {
        Self {
            id: None,
            of_cat: scope.cat.is_some(),
            cat: scope.cat,
            before: scope.before_ns.map(rfc3339),
            state: "preview",
            requested_at: None,
            ended_at: None,
            deleted: counts.into(),
            not_deleted: settings.not_deleted(),
        }
    }
}

/// Returns what the hub stores, where and how long, who may hear live audio, and the deletions that were asked for.
#[utoipa::path(
    get, path = "/api/v1/privacy", operation_id = "get_privacy", tag = "privacy",
    responses(
        (status = 200, body = PrivacyAnswer),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn privacy(State(app): State<Arc<App>>) -> Result<Line<PrivacyAnswer>, Failure> {
    let PrivacySettings { data_dir, events, notices_keep_days, backup } = &app.privacy;
    let clips = app.clips.config();
    let days = |days: u32| Some(days).filter(|days| *days > 0);
    let has_users = app.people.has_users().await?;
    let totals = app.store.clip_totals().await?;
    let deletions = app.store.deletions().await?;
    let folder = data_dir.clone();
    let other_copies = tokio::task::spawn_blocking(move || copies_aside(&folder)).await.unwrap_or_default();
    Ok(Line(PrivacyAnswer {
        data_dir: data_dir.display().to_string(),
        clips: ClipsStored {
            enabled: clips.enabled,
            count: totals.count,
            bytes: totals.bytes,
            before_s: f64::from(clips.pre_roll_ms) / 1_000.0,
            after_s: f64::from(clips.post_roll_ms) / 1_000.0,
            longest_s: clips.max_length_s,
            speech_cut_off: clips.speech_gate,
            keep_days: days(clips.keep_days),
            keep_count: clips.keep_count,
            keep_bytes: clips.keep_mb.saturating_mul(1_000_000),
            labelled_keep_count: LABELLED_KEEP_COUNT,
            labelled_keep_bytes: LABELLED_KEEP_BYTES,
        },
        events: EventsStored {
            keep_days: days(events.keep_days),
            keep_count: events.keep_count,
            labelled_keep_count: LABELLED_KEEP_EVENTS,
            deleted_keep_days: REMEMBER_DELETED_DAYS,
        },
        notifications: NotificationsStored { keep_days: *notices_keep_days, keep_count: MAX_NOTIFICATIONS },
        quarantine: QuarantineStored { keep_days: QUARANTINE_KEEP_DAYS, keep_bytes: QUARANTINE_KEEP_BYTES },
        snapshots: SnapshotsStored { keep_count: SNAPSHOTS_KEPT },
        backups: BackupsStored { to: backup.to.as_ref().map(|to| to.display().to_string()), keep_count: backup.keep },
        audit_log: AuditStored { keep_days: AUDIT_DAYS, keep_count: MAX_AUDIT_ENTRIES },
        session_days: SESSION_DAYS,
        live_audio: LiveAudio {
            enabled: app.page.live_audio,
            who: app.page.live_audio.then_some(if has_users { "listener" } else { "everyone" }),
            listening_now: app.limits.listeners.list().len(),
        },
        other_copies,
        deletions: deletions.into_iter().map(|one| DeletionAnswer::of(one, &app.privacy)).collect(),
    }))
}

/// Deletes everything about a cat, everything before a time, or everything about a cat before a time: events with their
/// recordings, labels and notifications, analyses, and their copies in the quarantine and in snapshots. It goes on in
/// the background after the answer, and after a restart. `/api/v1/privacy` says how far it is. What came after the
/// request stays.
#[utoipa::path(
    post, path = "/api/v1/deletions", operation_id = "delete_everything", tag = "privacy", request_body = DeletionBody,
    responses(
        (status = 200, body = DeletionAnswer, description = "With `dry_run`: what would be deleted"),
        (status = 202, body = DeletionAnswer, description = "The deletion begins"),
        (status = 400, body = Problem, description = "`bad_request`: neither `cat` nor `before`, or one is invalid"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 409, body = Problem, description = "`conflict`: too many deletions wait"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn delete(State(app): State<Arc<App>>, Body(body): Body<DeletionBody>) -> Result<Response, Failure> {
    let scope = DeletionScope::asked(body.cat, body.before)?;
    let what = scope.to_string();
    let (status, subject, answer) = if body.dry_run {
        let counts = app.store.preview_deletion(scope.clone()).await?;
        (StatusCode::OK, format!("{what} (dry run)"), DeletionAnswer::preview(scope, counts, &app.privacy))
    } else {
        let deletion = app.store.begin_deletion(scope).await?;
        (StatusCode::ACCEPTED, what, DeletionAnswer::of(deletion, &app.privacy))
    };
    Ok(about(subject, (status, Line(answer))))
}
