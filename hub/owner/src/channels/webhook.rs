//! A notice as an HTTP POST of JSON, signed.
//!
//! `Meowlink-Signature: t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256 of `SECONDS.BODY` with the shared secret and SECONDS
//! is when it was sent, since 1970 UTC. `Idempotency-Key` stays the same over all tries.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hub_store::notices::Notice;
use ring::hmac;

use super::post::Poster;
use crate::message::Payload;
use daemon::config::Secret;

#[derive(Debug)]
pub(super) struct Webhook {
    pub(super) poster: Arc<Poster>,
    pub(super) url: String,
    pub(super) secret: Option<Secret>,
    pub(super) public_url: Option<Arc<str>>,
}

impl Webhook {
    pub(super) async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let body = Payload::new(notice, self.public_url.as_deref()).to_json();
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let signature = self.secret.as_ref().map(|secret| ("meowlink-signature", sign(secret.expose(), now_s, &body)));
        let headers = [("idempotency-key", notice.key.clone())].into_iter().chain(signature);
        self.poster.json(&self.url, headers, body).await
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
