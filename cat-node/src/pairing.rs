//! The node's side of pairing: the service that hubs call, and the code that `cat-node pair` opens.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::identity::rotation::KeyHistory;
use daemon::identity::{Fingerprint, IdentityError, OwnKey, PublicKey};
use daemon::opening::PeerKey;
use daemon::pairing::{Code, Ends, Offers, PairingSecret, Refusal, StandingOffer};
use daemon::quiet::Quiet;
use proto::pairing_server::Pairing as PairingRpc;
use proto::{
    PairingAnnounceKeyRequest, PairingAnnounceKeyResponse, PairingBeginRequest, PairingBeginResponse,
    PairingConfirmRequest, PairingConfirmResponse, PairingKeyChangesRequest, PairingKeyChangesResponse,
    PairingStateRequest, PairingStateResponse,
};
use tonic::{Request, Response, Status};
use tracing::{debug, info, warn};

use crate::hubs::{Hubs, HubsError, PairedHub};

/// What paths of the calls begin with that any hub may make.
pub const SERVICE_PATH: &str = "/proto.Pairing/";

/// At most one refusal is logged in this time.
const LOG_PERIOD: Duration = Duration::from_secs(10);

/// Who the node is paired with, and the open code. Clones share both.
#[derive(Debug, Clone)]
pub struct Pairing {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    own: OwnKey,
    cat: String,
    hubs: Hubs,
    offers: Offers,
    /// What hubs with the same secret in their configs pair by, until the node has been paired.
    standing: Option<StandingOffer>,
    quiet: Mutex<Quiet>,
}

impl Pairing {
    /// The pairing of the node with this key, which hears this cat. `secret`: a hub that has the same one in its config
    /// needs no code, until the node has been paired.
    pub fn new(own: OwnKey, cat: String, hubs: Hubs, secret: Option<PairingSecret>) -> Self {
        match &secret {
            Some(_) if hubs.was_ever_paired() => info!("pairing_secret is ignored, because the node has been paired"),
            Some(_) => info!("the node pairs with a hub that has the same pairing_secret"),
            None => {}
        }
        let (offers, standing) = (Offers::default(), secret.map(StandingOffer::new));
        let quiet = Mutex::new(Quiet::new(LOG_PERIOD));
        Self { shared: Arc::new(Shared { own, cat, hubs, offers, standing, quiet }) }
    }

    /// The secret, if this hub may pair by it: the node has never been paired, or it is paired with this hub, which
    /// may have failed to store that. So a hub that a person forgets does not come back.
    fn secret_for(&self, hub: Fingerprint) -> Result<&StandingOffer, Refusal> {
        let secret = self.shared.standing.as_ref().ok_or(Refusal::NoSecret)?;
        let is_wanted = !self.hubs().was_ever_paired() || self.hubs().keyring().trusts(hub);
        if is_wanted { Ok(secret) } else { Err(Refusal::NoSecret) }
    }

    /// Checks the proof of a hub, by whichever way it began.
    fn confirm_proof(&self, hub: Fingerprint, proof: &[u8]) -> Result<(), Refusal> {
        match self.secret_for(hub).and_then(|secret| secret.confirm(hub, proof)) {
            // Without a proof, a hub ends its exchange by the secret. One by a code goes on.
            Err(refusal) if proof.is_empty() => Err(refusal),
            Err(Refusal::NoSecret | Refusal::NotBegun) => self.shared.offers.confirm(hub, proof),
            // The same hub may have begun by a code too, for a person.
            Err(refusal) => self.shared.offers.confirm(hub, proof).map_err(|_| refusal),
            done => done,
        }
    }

    /// The hubs that the node is paired with.
    pub fn hubs(&self) -> &Hubs {
        &self.shared.hubs
    }

    /// Changes the node's key, and returns the fingerprint of the new one. Streams go on. Waits for the disk.
    ///
    /// # Errors
    /// See [`OwnKey::change`].
    pub fn change_key(&self) -> Result<Fingerprint, IdentityError> {
        let key = self.shared.own.change()?;
        warn!(id = %self.shared.own.id(), %key, "the node has a new key");
        Ok(key)
    }

    /// Opens a new code, in place of an earlier one.
    pub fn offer(&self) -> Code {
        info!("a pairing code is open");
        self.shared.offers.open()
    }
}

/// The key of the calling hub.
fn key_of<T>(request: &Request<T>) -> Result<PublicKey, Status> {
    let key = request.extensions().get::<PeerKey>();
    key.map(|PeerKey(key)| *key).ok_or_else(|| Status::unauthenticated("pairing needs TLS"))
}

/// Anybody who reaches the port may try, as often as he likes, so few refusals are logged.
fn refused(refusal: Refusal, hub: Fingerprint, peer: Option<SocketAddr>, quiet: &Mutex<Quiet>) -> Status {
    let peer = peer.map(tracing::field::display);
    match refusal {
        Refusal::NoCode | Refusal::NoSecret | Refusal::NotBegun => {
            debug!(%hub, peer, reason = %refusal, "pairing refused");
        }
        _ => {
            if let Some(suppressed_lines) = quiet.lock().unwrap_or_else(PoisonError::into_inner).allow() {
                warn!(%hub, peer, reason = %refusal, suppressed_lines, "pairing refused");
            }
        }
    }
    let message = refusal.to_string();
    match refusal {
        Refusal::NoCode
        | Refusal::NoSecret
        | Refusal::TriedTooOften
        | Refusal::SecretTriedTooOften
        | Refusal::AlreadyPaired
        | Refusal::NotBegun => Status::failed_precondition(message),
        Refusal::BadMessage => Status::invalid_argument(message),
        Refusal::WrongProof | Refusal::WrongSecret => Status::permission_denied(message),
    }
}

#[tonic::async_trait]
impl PairingRpc for Pairing {
    async fn begin(&self, request: Request<PairingBeginRequest>) -> Result<Response<PairingBeginResponse>, Status> {
        let (hub, peer) = (key_of(&request)?.fingerprint(), request.remote_addr());
        // Asked first, so that it costs no try.
        if !self.hubs().has_room_for(hub) {
            return Err(Status::resource_exhausted(HubsError::Full.to_string()));
        }
        let ends = Ends { hub, node: self.shared.own.fingerprint() };
        let (from, PairingBeginRequest { exchange, by_secret }) = (peer.map(|peer| peer.ip()), request.get_ref());
        let begun = if *by_secret {
            self.secret_for(hub).and_then(|secret| secret.begin(ends, from, exchange))
        } else {
            self.shared.standing.iter().for_each(|secret| secret.abandon(hub));
            self.shared.offers.begin(ends, from, exchange)
        };
        let (exchange, proof) = begun.map_err(|refusal| refused(refusal, hub, peer, &self.shared.quiet))?;
        Ok(Response::new(PairingBeginResponse { exchange, proof }))
    }

    async fn state(&self, _: Request<PairingStateRequest>) -> Result<Response<PairingStateResponse>, Status> {
        Ok(Response::new(PairingStateResponse { code_is_open: self.shared.offers.is_open() }))
    }

    async fn key_changes(
        &self,
        _: Request<PairingKeyChangesRequest>,
    ) -> Result<Response<PairingKeyChangesResponse>, Status> {
        let statements = self.shared.own.present().1.statements().to_vec();
        Ok(Response::new(PairingKeyChangesResponse { statements }))
    }

    async fn announce_key(
        &self,
        request: Request<PairingAnnounceKeyRequest>,
    ) -> Result<Response<PairingAnnounceKeyResponse>, Status> {
        let peer = request.remote_addr().map(tracing::field::display);
        let key = key_of(&request)?;
        let refused = |reason: String| {
            if let Some(suppressed_lines) = self.shared.quiet.lock().unwrap_or_else(PoisonError::into_inner).allow() {
                let hub = key.fingerprint();
                warn!(%hub, peer = peer.as_ref(), reason, suppressed_lines, "the new key of a hub is refused");
            }
            Status::permission_denied(reason)
        };
        let history =
            KeyHistory::read(request.into_inner().statements, &key).map_err(|error| refused(error.to_string()))?;
        let (pairing, now) = (self.clone(), history.present());
        let followed = tokio::task::spawn_blocking(move || pairing.hubs().follow_key(&history)).await;
        match followed {
            Ok(Ok(old)) if old == now => {}
            Ok(Ok(old)) => warn!(%old, new = %now, peer, "a paired hub has a new key"),
            Ok(Err(HubsError::Unknown(_))) => return Err(refused("the node knows no earlier key of this hub".into())),
            Ok(Err(error)) => {
                warn!(%error, "the new key of a hub could not be stored");
                return Err(Status::internal("the node cannot store the key; its log says why"));
            }
            Err(_) => return Err(Status::internal("the node cannot store the key")),
        }
        Ok(Response::new(PairingAnnounceKeyResponse {}))
    }

    async fn confirm(
        &self,
        request: Request<PairingConfirmRequest>,
    ) -> Result<Response<PairingConfirmResponse>, Status> {
        let (hub, peer) = (key_of(&request)?.fingerprint(), request.remote_addr());
        let PairingConfirmRequest { proof, hub_name, owner_port } = request.into_inner();
        self.confirm_proof(hub, &proof).map_err(|refusal| refused(refusal, hub, peer, &self.shared.quiet))?;
        let port = u16::try_from(owner_port).ok().filter(|port| *port != 0);
        let owner = peer.zip(port).map(|(peer, port)| SocketAddr::new(peer.ip().to_canonical(), port));
        let paired = PairedHub { key: hub.to_string(), name: hub_name, owner };
        let pairing = self.clone();
        let added = tokio::task::spawn_blocking(move || pairing.hubs().add(paired)).await;
        match added {
            Ok(Ok(())) => {
                info!(%hub, peer = peer.map(tracing::field::display), "paired with a hub");
                Ok(Response::new(PairingConfirmResponse { cat_name: self.shared.cat.clone() }))
            }
            Ok(Err(error @ HubsError::Full)) => Err(Status::resource_exhausted(error.to_string())),
            Ok(Err(error)) => {
                warn!(%error, "a pairing could not be stored");
                Err(Status::internal("the node cannot store the pairing; its log says why"))
            }
            Err(_) => Err(Status::internal("the node cannot store the pairing")),
        }
    }
}
