//! HTTP POST to somebody else's server. Deadlines are the caller's.

use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Semaphore;
use tonic::codegen::Service;

use crate::tls;

/// How long one address of a server may take to be connected to.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a refusal that are read and kept, to say why. The rest is left unread.
const MAX_REASON_BYTES: usize = 300;

/// Names that are looked up at the same time. Further ones wait: a lookup that hangs holds a thread that the store may need,
/// and cannot be cut short.
const LOOKUPS: usize = 4;

type Https = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// Posts. A connection for each: notices are rare, and one that was kept might have died.
#[derive(Debug, Default)]
pub(super) struct Poster {
    client: OnceLock<Https>,
}

impl Poster {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Sends JSON. Answers of 200 to 299 are a success; redirections are none, and are not followed: what is signed for one
    /// server is not for another.
    ///
    /// # Errors
    /// What went wrong, for people.
    pub(super) async fn json(
        &self,
        url: &str,
        headers: impl IntoIterator<Item = (&'static str, String)>,
        body: String,
    ) -> Result<(), String> {
        let mut request = Request::builder().method(Method::POST).uri(url);
        request = request.header(CONTENT_TYPE, "application/json");
        request = request.header(USER_AGENT, concat!("meowlink/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            let mut value = HeaderValue::try_from(value).map_err(|_| format!("no value for the header {name}"))?;
            value.set_sensitive(true);
            request = request.header(HeaderName::from_static(name), value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|why| why.to_string())?;
        let answer = self.client().request(request).await.map_err(|why| causes(&why))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        if status.is_redirection() {
            return Err(format!("it answered {status}; redirections are not followed"));
        }
        let mut reason = Vec::new();
        let mut body = answer.into_body();
        while reason.len() < MAX_REASON_BYTES {
            let Some(Ok(frame)) = body.frame().await else { break };
            reason.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        reason.truncate(MAX_REASON_BYTES);
        Err(format!("it answered {status}: {}", String::from_utf8_lossy(&reason).trim()))
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

/// An error and what is behind it: the first of them rarely says what happened.
fn causes(error: &dyn std::error::Error) -> String {
    let mut all = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        all = format!("{all}: {error}");
        next = error.source();
    }
    all
}

#[cfg(test)]
mod tests;
