//! A notification as a push message, through <https://ntfy.sh> or another server of ntfy.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::config::{ConfigError, Secret};
use hub_store::notifications::Notification;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::{Sender, Settings, Tools};
use super::post::Poster;
use super::server::Server;
use crate::delivery::DeliveryFailure;
use crate::message::{Message, clip_url, event_url};
use crate::secret::secret;
use crate::values::{check_url, has_login};

/// `type = "ntfy"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name among the owner's channels. Default: the type.
    name: Option<String>,
    /// The server.
    #[serde(default = "default_server")]
    server: String,
    /// The topic that the owner's phone subscribes to.
    topic: String,
    /// Access token. Default: none.
    token: Option<Secret>,
    /// A file that holds the token.
    token_file: Option<PathBuf>,
    /// Priority, 1 (lowest) to 5.
    #[serde(default = "default_priority")]
    #[schemars(range(min = 1, max = 5))]
    priority: u8,
    /// Tags. Ntfy shows names of emojis as emojis.
    #[serde(default = "default_tags")]
    tags: Vec<String>,
    /// Whether to attach the event's recording. Needs `notices.public_url`.
    #[serde(default)]
    attach: bool,
}

fn default_server() -> String {
    "https://ntfy.sh".into()
}

fn default_priority() -> u8 {
    3
}

fn default_tags() -> Vec<String> {
    vec!["cat".into()]
}

impl Settings for Config {
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn check(&self, _owner: &str, has_public_url: bool) -> Result<(), (&'static str, String)> {
        check_url(&self.server).map_err(|why| ("server", why))?;
        let topic = &self.topic;
        let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
        if topic.is_empty() || topic.len() > 64 || !topic.chars().all(is_allowed) {
            return Err(("topic", format!("{topic:?} is not 1 to 64 letters, digits, _ and -")));
        }
        if has_login(&self.server) && (self.token.is_some() || self.token_file.is_some()) {
            return Err(("token", "cannot be combined with a user name in the URL of the server".into()));
        }
        if self.token.is_some() && self.token_file.is_some() {
            return Err(("token_file", "cannot be combined with token".into()));
        }
        if self.attach && !has_public_url {
            return Err(("attach", "needs notices.public_url, where the phone fetches the recording".into()));
        }
        Ok(())
    }

    fn secret_file(&self) -> Option<(&'static str, &Path)> {
        self.token_file.as_deref().map(|file| ("token_file", file))
    }

    fn open(&self, _owner: &str, prefix: &str, tools: &Tools) -> Result<Box<dyn Sender>, ConfigError> {
        let token = secret(&format!("{prefix}.token_file"), self.token.as_ref(), self.token_file.as_deref())?;
        let (poster, public_url) = (Arc::clone(&tools.poster), tools.public_url.clone());
        let server = Server::new(&self.server);
        Ok(Box::new(Ntfy { config: self.clone(), server, poster, token, public_url }))
    }
}

#[derive(Debug)]
struct Ntfy {
    config: Config,
    server: Server,
    poster: Arc<Poster>,
    token: Option<Secret>,
    public_url: Option<Arc<str>>,
}

/// What the server accepts at its root. It accepts headers too, but in those, names with umlauts would have to be
/// encoded.
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

#[tonic::async_trait]
impl Sender for Ntfy {
    async fn send(&self, notification: &Notification, message: &Message) -> Result<(), DeliveryFailure> {
        let (subject, config) = (&notification.subject, &self.config);
        let Message { title, text } = message.clone();
        let public_url = self.public_url.as_deref();
        let message = Publish {
            topic: &config.topic,
            title,
            message: text,
            priority: config.priority,
            tags: &config.tags,
            click: event_url(subject, public_url),
            attach: clip_url(subject, public_url).filter(|_| config.attach),
        };
        let body = serde_json::to_string(&message).expect("strings and numbers");
        let token = self.token.as_ref().map(|token| ("authorization", format!("Bearer {}", token.expose())));
        let login = token.or_else(|| self.server.login());
        let headers = [("idempotency-key", notification.key.clone())].into_iter().chain(login);
        self.poster.json(self.server.url(), headers, body).await
    }
}
