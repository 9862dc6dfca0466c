//! The Owner service: the person the animals belong to.

use proto::owner_server::Owner;
use proto::{NotifyRequest, NotifyResponse};
use tonic::{Request, Response, Status};
use tracing::debug;

/// Answers every notice at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnerService;

#[tonic::async_trait]
impl Owner for OwnerService {
    async fn notify(&self, request: Request<NotifyRequest>) -> Result<Response<NotifyResponse>, Status> {
        let NotifyRequest { animal_name, animal_type } = request.into_inner();
        debug!(animal_name, animal_type, "owner notified");
        Ok(Response::new(NotifyResponse { message: format!("Owner of {animal_name} {animal_type} is notified") }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn notify(animal_name: &str, animal_type: &str) -> String {
        let request = NotifyRequest { animal_name: animal_name.into(), animal_type: animal_type.into() };
        OwnerService.notify(Request::new(request)).await.unwrap().into_inner().message
    }

    #[tokio::test]
    async fn answers_are_the_contracts() {
        assert_eq!(notify("Tom", "cat").await, "Owner of Tom cat is notified");
        assert_eq!(notify("", "").await, "Owner of   is notified");
    }
}
