//! Tokens on the gRPC ports: `authorization: Bearer meowlink_...`.

use std::convert::Infallible;
use std::task::{Context, Poll};

use hub_people::{People, is_token};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;

/// A service that checks tokens of the hub. A call with a token that the hub does not know, or no longer, is refused. A
/// good one is taken off, so that no node sees it. Other values of `authorization` belong to somebody else and stay.
#[derive(Debug, Clone)]
pub(super) struct Checked<S> {
    inner: S,
    /// `None`: this process has no store, and cannot check tokens.
    people: Option<People>,
}

impl<S> Checked<S> {
    pub(super) fn new(inner: S, people: Option<People>) -> Self {
        Self { inner, people }
    }
}

impl<S: NamedService> NamedService for Checked<S> {
    const NAME: &'static str = S::NAME;
}

fn token_in(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok().and_then(is_token)
}

/// Takes the tokens of the hub off a request, and returns them.
fn take_tokens(request: &mut Request<Body>) -> Vec<String> {
    let values = request.headers().get_all(AUTHORIZATION);
    let tokens: Vec<String> = values.iter().filter_map(token_in).map(str::to_owned).collect();
    if !tokens.is_empty() {
        let others: Vec<_> = values.iter().filter(|value| token_in(value).is_none()).cloned().collect();
        request.headers_mut().remove(AUTHORIZATION);
        for other in others {
            request.headers_mut().append(AUTHORIZATION, other);
        }
    }
    tokens
}

impl<S> Service<Request<Body>> for Checked<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let tokens = take_tokens(&mut request);
        let people = self.people.clone().filter(|_| !tokens.is_empty());
        // The one that is ready is the one that is called.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(async move {
            if let Some(people) = people {
                for token in &tokens {
                    let refused = match people.by_token(token).await {
                        Ok(Some(_)) => continue,
                        Ok(None) => Status::unauthenticated("this token is unknown, removed or expired"),
                        Err(error) => error.into(),
                    };
                    return Ok(refused.into_http());
                }
            }
            inner.call(request).await
        })
    }
}
