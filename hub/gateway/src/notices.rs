//! `/api/v1/notices`: what the owners are told, were told, or were spared.

#![allow(unused_qualifications, reason = "in what utoipa makes of `params(ListParams)`")]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use hub_base::error::{Code, Error};
use hub_base::time;
use hub_base::time::now_ns;
use hub_store::notifications::{Notification, NotificationState, Subject};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::json::{Failure, Line, Problem};
use crate::params::{Id, Params, bad, page_limit};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(retry))
}

/// Which notices are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListParams {
    /// Only those that are `pending`, `delivered`, `dead` or `suppressed`.
    status: Option<String>,
    /// Notices in a page, 1 to 500.
    #[param(default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<i64>,
}

/// A page of notices.
#[derive(Debug, Serialize, ToSchema)]
struct NoticesAnswer {
    /// The latest first.
    notices: Vec<NoticeAnswer>,
    /// Give it as `cursor` to get the next page. Null: this is the last.
    next_cursor: Option<i64>,
}

/// Something that an owner is told, was told, or was spared.
#[derive(Debug, Serialize, ToSchema)]
struct NoticeAnswer {
    /// Its number.
    id: i64,
    /// Stays the same over all tries; the receiver gets it as `Idempotency-Key`.
    key: String,
    /// Name of the owner.
    owner: String,
    /// Name of the owner's channel. Null: suppressed.
    channel: Option<String>,
    /// `log`, `webhook`, `ntfy` or `mqtt`. Null: suppressed.
    channel_kind: Option<String>,
    /// `call`, `event`, `node` (one that does not hear, or hears again) or `digest`.
    kind: &'static str,
    /// The animal. Null: a digest, or a cat without a name.
    animal: Option<String>,
    /// Number of the event that it is about. Null: it is about none.
    event_id: Option<i64>,
    /// Of a digest: how often, by animal and then by context, `call`, or `node_` and how the node was. Null: it is none.
    counts: Option<BTreeMap<String, BTreeMap<String, u64>>>,
    /// `pending`, `delivered`, `dead` (given up) or `suppressed` (not told by itself).
    status: &'static str,
    /// Why it is suppressed: `cooldown`, `quiet_hours` or `digest_only`. Null: it is not.
    reason: Option<&'static str>,
    /// Tries that failed.
    tries: u32,
    /// Why the last one failed.
    error: Option<String>,
    /// When it was put in, RFC 3339 in UTC.
    created_at: String,
    /// When it was delivered, given up or suppressed. Null: it is pending.
    ended_at: Option<String>,
}

impl From<Notification> for NoticeAnswer {
    fn from(notice: Notification) -> Self {
        let subject = &notice.subject;
        let (channel, channel_kind) = notice.channel.map(|channel| (channel.name, channel.kind)).unzip();
        Self {
            id: notice.id,
            key: notice.key,
            owner: notice.owner,
            channel,
            channel_kind,
            kind: subject.kind(),
            animal: Some(subject.animal().to_owned()).filter(|animal| !animal.is_empty()),
            event_id: if let Subject::Event { id, .. } = subject { Some(*id) } else { None },
            counts: if let Subject::Digest { counts, .. } = subject { Some(counts.clone()) } else { None },
            status: notice.state.as_str(),
            reason: notice.reason.map(|reason| reason.as_str()),
            tries: notice.tries,
            error: notice.error,
            created_at: time::rfc3339(notice.created_at_ns),
            ended_at: notice.ended_at_ns.map(time::rfc3339),
        }
    }
}

/// The notices, the latest first.
#[utoipa::path(
    get, path = "/api/v1/notices", tag = "notices", params(ListParams),
    responses(
        (status = 200, body = NoticesAnswer),
        (status = 400, body = Problem, description = "`bad_request`: a parameter makes no sense"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn list(State(app): State<Arc<App>>, Params(params): Params<ListParams>) -> Result<Line<NoticesAnswer>, Failure> {
    let state =
        params.status.map(|word| word.parse::<NotificationState>().map_err(|why| bad(format!("status: {why}"))));
    let limit = page_limit(params.limit)?;
    // One more than asked for tells whether there is a next page.
    let mut notices = app.store.notifications(state.transpose()?, params.cursor, limit + 1).await?;
    let more = notices.len() > limit;
    notices.truncate(limit);
    let next_cursor = notices.last().filter(|_| more).map(|last| last.id);
    Ok(Line(NoticesAnswer { notices: notices.into_iter().map(NoticeAnswer::from).collect(), next_cursor }))
}

/// Tries a notice again that was given up; its tries and its age count anew.
#[utoipa::path(
    post, path = "/api/v1/notices/{id}/retry", tag = "notices",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, body = NoticeAnswer, description = "It is pending"),
        (status = 403, body = Problem, description = "`foreign_origin`: asked for by a page of another site"),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 409, body = Problem, description = "`conflict`: it was not given up"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn retry(State(app): State<Arc<App>>, Id(id): Id) -> Result<Line<NoticeAnswer>, Failure> {
    let (notice, was_dead) = app
        .store
        .retry_notification(id, now_ns())
        .await?
        .ok_or_else(|| Error::new(Code::NotFound, format!("there is no notice {id}")))?;
    if !was_dead {
        return Err(Error::new(Code::Conflict, format!("notice {id} is {}, not dead", notice.state.as_str())).into());
    }
    Ok(Line(NoticeAnswer::from(notice)))
}
