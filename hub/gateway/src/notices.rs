//! `/api/v1/notices`: notifications to owners, including delivered and suppressed ones.

#![allow(unused_qualifications, reason = "in the code that utoipa generates for `params(ListParams)`")]

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
use crate::params::{Id, Params, bad, number_of, page_limit};

pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(retry))
}

/// Filter and page of the list of notifications.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListParams {
    /// Only notifications that are `pending`, `delivered`, `dead` or `suppressed`.
    status: Option<String>,
    /// Most notifications in a page, 1 to 500.
    #[param(default = 50)]
    limit: Option<u32>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// A page of notifications.
#[derive(Debug, Serialize, ToSchema)]
struct NoticesAnswer {
    /// Latest first.
    notices: Vec<NoticeAnswer>,
    /// Send it as `cursor` to get the next page. Null: this is the last page.
    next_cursor: Option<String>,
}

/// A notification: pending, delivered, given up or suppressed.
#[derive(Debug, Serialize, ToSchema)]
struct NoticeAnswer {
    /// Number of the notification.
    id: i64,
    /// Identical in all attempts. A webhook receives it as `Idempotency-Key`.
    key: String,
    /// Name of the owner.
    owner: String,
    /// Name of the owner's channel. Null: the notification is suppressed.
    channel: Option<String>,
    /// Kind of the channel: `log`, `webhook`, `ntfy` or `mqtt`. Null: the notification is suppressed.
    channel_kind: Option<String>,
    /// What it is about: `call`, `event`, `node` (a node went deaf or away, or recovered) or `digest`.
    kind: &'static str,
    /// Name of the animal. Null: the notification is a digest, or the cat has no name.
    animal: Option<String>,
    /// Number of the event. Null: the notification is not about an event.
    event_id: Option<i64>,
    /// For a digest: counts by animal, then by context, `call`, or `node_<condition>`. Null for anything else.
    counts: Option<BTreeMap<String, BTreeMap<String, u64>>>,
    /// For a digest: how many notifications it counts about animals that are not in `counts`. Null for anything else.
    further: Option<u64>,
    /// `pending`, `delivered`, `dead` (delivery was given up) or `suppressed` (not sent).
    status: &'static str,
    /// Why it was suppressed: `cooldown`, `quiet_hours`, `digest_only`, `backlog` (a digest took its place, because the
    /// channel was down), `event_deleted`, `not_a_cat` (a person deleted its event, or labelled it so, before it was
    /// delivered), `like_not_a_cat` (its event sounds like ones labelled so), or `below_min_score` (its event scored
    /// below the `min_score` of the node). Null: it was not.
    reason: Option<&'static str>,
    /// Number of failed attempts.
    tries: u32,
    /// Why the last attempt failed. Null: no attempt failed.
    error: Option<String>,
    /// When it was created, RFC 3339 in UTC.
    created_at: String,
    /// When it was delivered, given up or suppressed, RFC 3339 in UTC. Null: it is pending.
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
            further: if let Subject::Digest { further, .. } = subject { Some(*further) } else { None },
            status: notice.state.as_str(),
            reason: notice.reason.map(|reason| reason.as_str()),
            tries: notice.tries,
            error: notice.error,
            created_at: time::rfc3339(notice.created_at_ns),
            ended_at: notice.ended_at_ns.map(time::rfc3339),
        }
    }
}

/// Lists notifications, latest first.
#[utoipa::path(
    get, path = "/api/v1/notices", operation_id = "list_notifications", tag = "notices", params(ListParams),
    responses(
        (status = 200, body = NoticesAnswer),
        (status = 400, body = Problem, description = "`bad_request`: a parameter is invalid"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn list(State(app): State<Arc<App>>, Params(params): Params<ListParams>) -> Result<Line<NoticesAnswer>, Failure> {
    let state =
        params.status.map(|word| word.parse::<NotificationState>().map_err(|why| bad(format!("status: {why}"))));
    let limit = page_limit(params.limit)?;
    // One more than asked for tells whether there is a next page.
    let mut notices = app.store.notifications(state.transpose()?, number_of(params.cursor)?, limit + 1).await?;
    let more = notices.len() > limit;
    notices.truncate(limit);
    let next_cursor = notices.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Line(NoticesAnswer { notices: notices.into_iter().map(NoticeAnswer::from).collect(), next_cursor }))
}

/// Retries a notification that was given up. Its attempts and its age count from zero again.
#[utoipa::path(
    post, path = "/api/v1/notices/{id}/retry", operation_id = "retry_notification", tag = "notices",
    params(("id" = i64, Path, description = "Number of the notification")),
    responses(
        (status = 200, body = NoticeAnswer, description = "The notification is pending again"),
        (status = 403, body = Problem, description = "`foreign_origin`: the request came from a page of another site"),
        (status = 404, body = Problem, description = "`not_found`"),
        (status = 409, body = Problem, description = "`conflict`: delivery was not given up"),
        (status = 503, body = Problem, description = "`store_unavailable`"),
    )
)]
async fn retry(State(app): State<Arc<App>>, Id(id): Id) -> Result<Line<NoticeAnswer>, Failure> {
    let (notice, was_dead) = app
        .store
        .retry_notification(id, now_ns())
        .await?
        .ok_or_else(|| Error::new(Code::NotFound, format!("notification {id} does not exist")))?;
    if !was_dead {
        let state = notice.state.as_str();
        let message = format!("notification {id} is {state}; only one that was given up (dead) can be retried");
        return Err(Error::new(Code::Conflict, message).into());
    }
    Ok(Line(NoticeAnswer::from(notice)))
}
