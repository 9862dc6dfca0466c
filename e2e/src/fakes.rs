//! Servers that behave as no honest one does: an owner that counts, hangs or is not there, and a port that accepts and says
//! nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use proto::owner_server::{Owner, OwnerServer};
use proto::{NotifyRequest, NotifyResponse};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::ports;
use crate::wait::{SOON, until};

/// What the fake owner does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Answers as the contract says.
    Answers,
    /// Takes the call and never answers.
    Hangs,
}

/// An owner in this process.
#[derive(Debug)]
pub struct FakeOwner {
    address: SocketAddr,
    notified: Arc<Mutex<Vec<(String, String)>>>,
    /// Its own, so that its connections end with it. `None` once it is stopped.
    runtime: Option<Runtime>,
}

impl FakeOwner {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When the port is taken.
    pub async fn start(mood: Mood) -> Self {
        Self::start_at(ports::free(), mood).await
    }

    /// Starts one at an address, such as where another one was.
    ///
    /// # Panics
    /// When the address is taken.
    pub async fn start_at(address: SocketAddr, mood: Mood) -> Self {
        let notified = Arc::<Mutex<Vec<_>>>::default();
        let service = Service { mood, notified: Arc::clone(&notified) };
        let runtime =
            Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be made");
        let bound = runtime.spawn(TcpListener::bind(address)).await.expect("binding does not panic");
        let listener = bound.unwrap_or_else(|error| panic!("{address}: {error}"));
        runtime.spawn(async move {
            let incoming = TcpIncoming::from(listener);
            // It ends with its runtime.
            let _ = Server::builder().add_service(OwnerServer::new(service)).serve_with_incoming(incoming).await;
        });
        Self { address, notified, runtime: Some(runtime) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL to call it by.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Name and type of every animal that it was notified of, in order.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn notified(&self) -> Vec<(String, String)> {
        self.notified.lock().expect("no holder panics").clone()
    }

    /// Takes it away: nobody listens any more, and connections are cut.
    ///
    /// # Panics
    /// When the port is not free again soon.
    pub async fn stop(self) {
        let address = self.address;
        drop(self);
        until(SOON, "the owner is gone", || async { TcpStream::connect(address).await.err() }).await;
    }
}

impl Drop for FakeOwner {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Service {
    mood: Mood,
    notified: Arc<Mutex<Vec<(String, String)>>>,
}

#[tonic::async_trait]
impl Owner for Service {
    async fn notify(&self, request: Request<NotifyRequest>) -> Result<Response<NotifyResponse>, Status> {
        let NotifyRequest { animal_name, animal_type } = request.into_inner();
        let message = format!("Owner of {animal_name} {animal_type} is notified");
        self.notified.lock().expect("no holder panics").push((animal_name, animal_type));
        if self.mood == Mood::Hangs {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(NotifyResponse { message }))
    }
}

/// A port that accepts connections and never says a word on them.
#[derive(Debug)]
pub struct BlackHole {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl BlackHole {
    /// Opens one on a free port.
    ///
    /// # Panics
    /// When the port is taken.
    pub async fn open() -> Self {
        let address = ports::free();
        let listener = TcpListener::bind(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        let task = tokio::spawn(async move {
            let mut swallowed: Vec<TcpStream> = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                swallowed.push(stream);
            }
        });
        Self { address, task }
    }

    /// The URL to call it by.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.task.abort();
    }
}
