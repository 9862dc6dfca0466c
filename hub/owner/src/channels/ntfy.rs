//! A notice as a push message, by a server of <https://ntfy.sh> or one's own.

use std::sync::Arc;

use hub_store::notices::Notice;
use serde::Serialize;

use super::post::Poster;
use crate::message::{Message, clip_url, event_url};
use daemon::config::Secret;

#[derive(Debug)]
pub(super) struct Ntfy {
    pub(super) poster: Arc<Poster>,
    pub(super) server: String,
    pub(super) topic: String,
    pub(super) token: Option<Secret>,
    pub(super) priority: u8,
    pub(super) tags: Vec<String>,
    pub(super) attach: bool,
    pub(super) public_url: Option<Arc<str>>,
}

/// What the server takes at its root. In headers, which it takes too, names with umlauts would have to be encoded.
#[derive(Debug, Serialize)]
struct Publish<'a> {
    topic: &'a str,
    title: String,
    message: String,
    priority: u8,
    tags: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    click: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attach: Option<String>,
}

impl Ntfy {
    pub(super) async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let Message { title, text } = Message::new(&notice.subject);
        let public_url = self.public_url.as_deref();
        let message = Publish {
            topic: &self.topic,
            title,
            message: text,
            priority: self.priority,
            tags: &self.tags,
            click: event_url(&notice.subject, public_url),
            attach: clip_url(&notice.subject, public_url).filter(|_| self.attach),
        };
        let body = serde_json::to_string(&message).map_err(|why| why.to_string())?;
        let token = self.token.as_ref().map(|token| ("authorization", format!("Bearer {}", token.expose())));
        let headers = [("idempotency-key", notice.key.clone())].into_iter().chain(token);
        self.poster.json(&self.server, headers, body).await
    }
}
