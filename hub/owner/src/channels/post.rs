//! HTTP POST to servers of webhooks and ntfy.

use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use daemon::cause::cause;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Semaphore;
use tonic::codegen::Service;

use crate::delivery::DeliveryFailure;
use crate::tls;

/// Time limit for the connection to one address of a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of an error response that are read and become part of the reason.
const MAX_REASON_BYTES: usize = 300;

/// Most host names that are looked up at the same time. Further ones wait: a lookup cannot be cancelled, and one that
/// hangs occupies a thread that the store may need.
const LOOKUPS: usize = 4;

type Https = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// Sends HTTP requests, each through a connection of its own: notifications are rare, and an idle connection may be
/// dead.
#[derive(Debug, Default)]
pub(crate) struct Poster {
    client: OnceLock<Https>,
}

impl Poster {
    /// Posts JSON. The caller sets the deadline. Only the statuses 200 to 299 are a success. Redirections are not
    /// followed: a body that is signed for one server is not for another.
    ///
    /// # Errors
    /// The server could not be reached, or refused the request; see [`refusal`].
    pub(super) async fn json(
        &self,
        url: &str,
        headers: impl IntoIterator<Item = (&'static str, String)>,
        body: String,
    ) -> Result<(), DeliveryFailure> {
        let mut request = Request::builder().method(Method::POST).uri(url);
        request = request.header(CONTENT_TYPE, "application/json");
        request = request.header(USER_AGENT, concat!("meowlink/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                DeliveryFailure::permanent(format!(
                    "the value of the header {name} contains characters that HTTP forbids"
                ))
            })?;
            value.set_sensitive(true);
            request = request.header(HeaderName::from_static(name), value);
        }
        let request = request.body(Full::new(Bytes::from(body)));
        let request = request.map_err(|why| DeliveryFailure::permanent(why.to_string()))?;
        let answer = self.client().request(request).await;
        let answer = answer.map_err(|why| DeliveryFailure::temporary(cause(&why)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let retry_after = retry_after(answer.headers(), SystemTime::now());
        let mut reason = Vec::new();
        let mut body = answer.into_body();
        while reason.len() < MAX_REASON_BYTES {
            let Some(Ok(frame)) = body.frame().await else { break };
            reason.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        reason.truncate(MAX_REASON_BYTES);
        Err(DeliveryFailure { retry_after, ..refusal(status, String::from_utf8_lossy(&reason).trim()) })
    }

    fn client(&self) -> &Https {
        self.client.get_or_init(|| client(tls::client_config()))
    }
}

fn client(tls: rustls::ClientConfig) -> Https {
    let mut plain = HttpConnector::new_with_resolver(Resolver(Arc::new(Semaphore::new(LOOKUPS))));
    plain.enforce_http(false);
    plain.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let secure = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls);
    let connector = secure.https_or_http().enable_http1().wrap_connector(plain);
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector)
}

/// What a status other than success means.
///
/// Most of 4xx says that the request itself is wrong, so repeating it is pointless: the notification is given up, and
/// can be sent again by hand once the server or the config is corrected. The exceptions are tried again within the
/// limits: 401, 403, 404 and 407, which a server or proxy also answers while it restarts or while a token is renewed,
/// and 408, 409, 421, 423, 425 and 429, which depend on the moment. So are 5xx and redirections.
fn refusal(status: StatusCode, body: &str) -> DeliveryFailure {
    if status.is_redirection() {
        return DeliveryFailure::temporary(format!("the server answered {status}; redirections are not followed"));
    }
    let separator = if body.is_empty() { "" } else { ": " };
    let reason = format!("the server answered {status}{separator}{body}");
    let may_change = matches!(status.as_u16(), 401 | 403 | 404 | 407 | 408 | 409 | 421 | 423 | 425 | 429);
    if status.is_client_error() && !may_change {
        DeliveryFailure::permanent(reason)
    } else {
        DeliveryFailure::temporary(reason)
    }
}

/// The header `Retry-After`: seconds, or a date of HTTP. `None`: missing, unreadable, or past.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    SystemTime::from(date.timestamp()).duration_since(now).ok()
}

/// Looks names up as the system does, [`LOOKUPS`] at a time.
#[derive(Debug, Clone)]
struct Resolver(Arc<Semaphore>);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let turns = Arc::clone(&self.0);
        Box::pin(async move {
            let turn = turns.acquire_owned().await.map_err(std::io::Error::other)?;
            let found = tokio::task::spawn_blocking(move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                drop(turn);
                found
            });
            found.await.map_err(std::io::Error::other)?
        })
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
