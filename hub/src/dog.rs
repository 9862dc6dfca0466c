//! The dog service: a dog that can be called, and whose owner is told.

use std::time::Duration;

use hub_base::error::{Who, within};
use hub_base::peer::Peer;
use proto::dog_server::Dog;
use proto::owner_client::OwnerClient;
use proto::{DogRequest, DogResponse, NotifyRequest};
use tonic::{Request, Response, Status};

/// How long the owner may take.
pub const OWNER_DEADLINE: Duration = Duration::from_secs(2);

/// Tells the owner, then answers.
#[derive(Debug, Clone)]
pub struct DogService {
    owner: OwnerClient<Peer>,
}

impl DogService {
    /// A dog whose owner is reached so.
    pub fn new(owner: Peer) -> Self {
        Self { owner: OwnerClient::new(owner) }
    }
}

#[tonic::async_trait]
impl Dog for DogService {
    async fn call_dog(&self, request: Request<DogRequest>) -> Result<Response<DogResponse>, Status> {
        let DogRequest { dog_name } = request.into_inner();
        let notice = NotifyRequest { animal_name: dog_name.clone(), animal_type: "Dog".into() };
        let mut notice = Request::new(notice);
        notice.set_timeout(OWNER_DEADLINE);
        within(Who::Owner, OWNER_DEADLINE, self.owner.clone().notify(notice)).await?;
        Ok(Response::new(DogResponse { dog_bark: format!("{dog_name} is going to bark!") }))
    }
}
