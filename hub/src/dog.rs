//! The dog service: answers calls to a dog and notifies its owner.

use hub_owner::client::OwnerCaller;
use proto::dog_server::Dog;
use proto::{DogRequest, DogResponse};
use tonic::{Request, Response, Status};

/// The kind of animal that the owner is notified about.
const ANIMAL_TYPE: &str = "Dog";

/// Notifies the owner, then answers the call.
#[derive(Debug, Clone)]
pub struct DogService {
    owner: OwnerCaller,
}

impl DogService {
    /// A dog service that notifies this owner.
    pub fn new(owner: OwnerCaller) -> Self {
        Self { owner }
    }
}

#[tonic::async_trait]
impl Dog for DogService {
    async fn call_dog(&self, request: Request<DogRequest>) -> Result<Response<DogResponse>, Status> {
        let DogRequest { dog_name } = request.into_inner();
        self.owner.notify(&dog_name, ANIMAL_TYPE).await?;
        Ok(Response::new(DogResponse { dog_bark: format!("{dog_name} is going to bark!") }))
    }
}
