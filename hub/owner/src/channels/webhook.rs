//! A notification as an HTTP POST of JSON, signed.
//!
//! `Meowlink-Signature: t=SECONDS,v1=HEX`: SECONDS is the time of the delivery, since 1970 UTC, and HEX is the
//! HMAC-SHA256 of `SECONDS.BODY` with the shared secret. `Idempotency-Key` stays the same over all deliveries of a
//! notification.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use daemon::config::{ConfigError, Secret};
use hub_store::notifications::Notification;
use ring::hmac;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kind::{Sender, Settings, Tools};
use super::post::Poster;
use super::server::Server;
use crate::delivery::DeliveryFailure;
use crate::message::Message;
use crate::secret::secret;
use crate::values::check_url;

mod format;

use format::Format;

/// `type = "webhook"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name among the owner's channels. Default: the type.
    name: Option<String>,
    /// Where to post to: `http://` or `https://`.
    url: String,
    /// Signs the body. Default: not signed.
    secret: Option<Secret>,
    /// A file that holds the secret.
    secret_file: Option<PathBuf>,
    /// What is posted. Default: by the host of the URL; the hub's own JSON for a host that it does not know.
    format: Option<Format>,
}

impl Settings for Config {
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn check(&self, _owner: &str, _has_public_url: bool) -> Result<(), (&'static str, String)> {
        check_url(&self.url).map_err(|why| ("url", why))?;
        if self.secret.is_some() && self.secret_file.is_some() {
            return Err(("secret_file", "cannot be combined with secret".into()));
        }
        Ok(())
    }

    fn secret_file(&self) -> Option<(&'static str, &Path)> {
        self.secret_file.as_deref().map(|file| ("secret_file", file))
    }

    fn open(&self, _owner: &str, prefix: &str, tools: &Tools) -> Result<Box<dyn Sender>, ConfigError> {
        let secret = secret(&format!("{prefix}.secret_file"), self.secret.as_ref(), self.secret_file.as_deref())?;
        let (poster, public_url) = (Arc::clone(&tools.poster), tools.public_url.clone());
        let format = self.format.unwrap_or_else(|| Format::of_url(&self.url));
        Ok(Box::new(Webhook { poster, server: Server::new(&self.url), format, secret, public_url }))
    }
}

#[derive(Debug)]
struct Webhook {
    poster: Arc<Poster>,
    server: Server,
    format: Format,
    secret: Option<Secret>,
    public_url: Option<Arc<str>>,
}

#[tonic::async_trait]
impl Sender for Webhook {
    async fn send(&self, notification: &Notification, message: &Message) -> Result<(), DeliveryFailure> {
        let body = self.format.body(notification, message, self.public_url.as_deref());
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signature = self.secret.as_ref().map(|secret| ("meowlink-signature", sign(secret.expose(), now_s, &body)));
        let headers = [("idempotency-key", notification.key.clone())].into_iter().chain(signature);
        self.poster.json(self.server.url(), headers.chain(self.server.login()), body).await
    }
}

fn sign(secret: &str, now_s: u64, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{now_s}.{body}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={now_s},v1={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_openssl() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let expected = "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
        assert_eq!(sign("secret", 1_700_000_000, "{\"a\":1}"), expected);
    }
}
