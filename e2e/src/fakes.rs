//! Fake servers: an owner that counts its calls, hangs or goes away, and a port that accepts connections and stays
//! silent.

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

/// How the fake owner treats a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// It answers as the contract says.
    Answers,
    /// It accepts the call and never answers.
    Hangs,
}

/// An owner service in this process.
#[derive(Debug)]
pub struct FakeOwner {
    address: SocketAddr,
    notified: Arc<Mutex<Vec<(String, String)>>>,
    /// A runtime of its own: its connections end when the runtime does. `None` after the drop.
    runtime: Option<Runtime>,
}

impl FakeOwner {
    /// Starts an owner on a free port.
    ///
    /// # Panics
    /// If another program takes the port first.
    pub async fn start(mood: Mood) -> Self {
        Self::start_at(ports::free(), mood).await
    }

    /// Starts an owner at this address, for example where an earlier one was stopped.
    ///
    /// # Panics
    /// If the address is in use.
    pub async fn start_at(address: SocketAddr, mood: Mood) -> Self {
        let notified = Arc::<Mutex<Vec<_>>>::default();
        let service = Service { mood, notified: Arc::clone(&notified) };
        let runtime =
            Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime can be made");
        let bound = runtime.spawn(TcpListener::bind(address)).await.expect("binding does not panic");
        let listener = bound.unwrap_or_else(|error| panic!("{address}: {error}"));
        runtime.spawn(async move {
            let incoming = TcpIncoming::from(listener);
            // The server ends with its runtime.
            let _ = Server::builder().add_service(OwnerServer::new(service)).serve_with_incoming(incoming).await;
        });
        Self { address, notified, runtime: Some(runtime) }
    }

    /// The address that the owner listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of the owner.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Name and type of each animal that the owner was notified about, in order.
    ///
    /// # Panics
    /// Never: no holder of the lock panics.
    pub fn notified(&self) -> Vec<(String, String)> {
        self.notified.lock().expect("no holder panics").clone()
    }

    /// Stops the owner: closes its port and cuts its connections.
    ///
    /// # Panics
    /// If the port still accepts connections after a while.
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

/// A port that accepts connections and never sends anything.
#[derive(Debug)]
pub struct BlackHole {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl BlackHole {
    /// Opens a free port.
    ///
    /// # Panics
    /// If another program takes the port first.
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

    /// The URL of the port.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.task.abort();
    }
}
