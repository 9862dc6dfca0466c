//! `/api/v1/backup`: how the backups are, and a backup now.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use hub_base::error::{Code, Error, Who};
use hub_base::time;
use hub_base::time::now_ns;
use hub_store::backup::{BackupState, Backups};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Line, Problem};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(state, back_up))
}

/// How the backups of the hub are.
#[derive(Debug, Serialize, ToSchema)]
struct BackupAnswer {
    /// The folder for backups. Null: `[backup] to` is not set.
    to: Option<String>,
    /// Whether a backup is under way.
    running: bool,
    /// The last good backup. Null: none is known.
    last: Option<LastBackupAnswer>,
    /// Whether no known backup is on another device than the data: if that device fails, everything is lost.
    only_on_data_disk: bool,
    /// Why the last backup failed. Null: it did not.
    failure: Option<FailureAnswer>,
    /// Daily copies of the database in the data folder.
    snapshots: SnapshotsAnswer,
    /// The last daily check of the database. Null: there was none since the start.
    check: Option<CheckAnswer>,
}

/// A good backup.
#[derive(Debug, Serialize, ToSchema)]
struct LastBackupAnswer {
    /// The folder or the archive.
    to: String,
    /// When it was made, RFC 3339 in UTC.
    made_at: String,
    /// Seconds since then.
    age_s: u64,
    /// Whether it is on another device than the data.
    other_device: bool,
    /// Bytes of its files.
    bytes: u64,
    /// Events that it holds.
    events: u64,
}

/// A backup that failed.
#[derive(Debug, Serialize, ToSchema)]
struct FailureAnswer {
    /// When, RFC 3339 in UTC.
    at: String,
    /// Why, and what to do.
    message: String,
}

/// Snapshots of the database.
#[derive(Debug, Serialize, ToSchema)]
struct SnapshotsAnswer {
    /// Number of snapshots.
    count: usize,
    /// When the last one was made, RFC 3339 in UTC. Null: there is none.
    last_at: Option<String>,
}

/// A check of the whole database.
#[derive(Debug, Serialize, ToSchema)]
struct CheckAnswer {
    /// When, RFC 3339 in UTC.
    at: String,
    /// Whether the database is intact.
    ok: bool,
    /// What is damaged. Null: nothing.
    fault: Option<String>,
}

impl From<BackupState> for BackupAnswer {
    fn from(state: BackupState) -> Self {
        let age_s = |made_at_ns: i64| now_ns().saturating_sub(made_at_ns).max(0).cast_unsigned() / 1_000_000_000;
        Self {
            to: state.to.map(|to| to.display().to_string()),
            running: state.running,
            last: state.last.map(|last| LastBackupAnswer {
                to: last.to,
                made_at: time::rfc3339(last.made_at_ns),
                age_s: age_s(last.made_at_ns),
                other_device: last.other_device,
                bytes: last.bytes,
                events: last.events,
            }),
            only_on_data_disk: state.only_on_data_disk,
            failure: state
                .failure
                .map(|failure| FailureAnswer { at: time::rfc3339(failure.at_ns), message: failure.message }),
            snapshots: SnapshotsAnswer { count: state.snapshots, last_at: state.last_snapshot_ns.map(time::rfc3339) },
            check: state.check.map(|check| CheckAnswer {
                at: time::rfc3339(check.at_ns),
                ok: check.fault.is_none(),
                fault: check.fault,
            }),
        }
    }
}

/// Returns how the backups are: the last good one, why one failed, the snapshots, and the daily check of the database.
#[utoipa::path(
    get, path = "/api/v1/backup", operation_id = "get_backup", tag = "backup",
    responses(
        (status = 200, body = BackupAnswer),
        (status = 503, body = Problem, description = "`analysis_unavailable`: another process makes the backups"),
    )
)]
async fn state(State(app): State<Arc<App>>) -> Result<Line<BackupAnswer>, Failure> {
    Ok(Line(backups(&app)?.state().await.into()))
}

/// Begins a backup to the folder that is configured. It goes on after the answer.
#[utoipa::path(
    post, path = "/api/v1/backup", operation_id = "back_up", tag = "backup",
    responses(
        (status = 202, body = BackupAnswer, description = "The backup begins, or one is under way"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 409, body = Problem, description = "`conflict`: no folder for backups is configured"),
        (status = 503, body = Problem, description = "`analysis_unavailable`: another process makes the backups"),
    )
)]
async fn back_up(State(app): State<Arc<App>>) -> Result<(StatusCode, Line<BackupAnswer>), Failure> {
    let backups = backups(&app)?;
    if !backups.request() {
        let message = "no folder for backups is configured: set `[backup] to` in hub.toml, and restart the hub";
        return Err(Error::new(Code::Conflict, message).into());
    }
    Ok((StatusCode::ACCEPTED, Line(backups.state().await.into())))
}

fn backups(app: &App) -> Result<&Backups, Error> {
    app.backups.as_ref().ok_or_else(|| {
        let message = "this process makes no backups: it lacks the analysis role; ask the process that has it";
        Error::new(Code::Unavailable(Who::Analysis), message)
    })
}
