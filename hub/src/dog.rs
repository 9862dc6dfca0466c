//! The dog service: answers calls to a dog and notifies its owner.

use std::time::Duration;

use hub_base::error::{Who, within};
use hub_base::peer::{MAX_ANSWER_BYTES, Peer};
use proto::dog_server::Dog;
use proto::owner_client::OwnerClient;
use proto::{DogRequest, DogResponse, NotifyRequest};
use tonic::{Request, Response, Status};

/// How long the Owner service may take to answer.
pub const OWNER_DEADLINE: Duration = Duration::from_secs(2);

/// Notifies the owner, then answers the call.
#[derive(Debug, Clone)]
pub struct DogService {
    owner: OwnerClient<Peer>,
}

impl DogService {
    /// A dog service that notifies the Owner service at `owner`.
    pub fn new(owner: Peer) -> Self {
        Self { owner: OwnerClient::new(owner).max_decoding_message_size(MAX_ANSWER_BYTES) }
    }
}

#[tonic::async_trait]
impl Dog for DogService {
    async fn call_dog(&self, request: Request<DogRequest>) -> Result<Response<DogResponse>, Status> {
        let DogRequest { dog_name } = request.into_inner();
        let notification = NotifyRequest { animal_name: dog_name.clone(), animal_type: "Dog".into() };
        let mut notification = Request::new(notification);
        notification.set_timeout(OWNER_DEADLINE);
        within(Who::Owner, OWNER_DEADLINE, self.owner.clone().notify(notification)).await?;
        Ok(Response::new(DogResponse { dog_bark: format!("{dog_name} is going to bark!") }))
    }
}
