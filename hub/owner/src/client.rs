//! How other parts of the hub call the Owner service, in this process or in another.

use std::time::Duration;

use daemon::call::{CallError, call_within};
use daemon::cause::cause;
use hub_base::error::{Code, Error, Who};
use hub_base::peer::{MAX_ANSWER_BYTES, Peer};
use proto::NotifyRequest;
use proto::owner_client::OwnerClient;
use tonic::Request;

/// How long the Owner service may take, connecting included.
pub const OWNER_DEADLINE: Duration = Duration::from_secs(2);

/// A client of the Owner service. Clones share its channel.
#[derive(Debug, Clone)]
pub struct OwnerCaller {
    client: OwnerClient<Peer>,
}

impl OwnerCaller {
    /// A client of the Owner service at `peer`.
    pub fn new(peer: Peer) -> Self {
        Self { client: OwnerClient::new(peer).max_decoding_message_size(MAX_ANSWER_BYTES) }
    }

    /// Notifies the owner that an animal was called. Connecting is retried until [`OWNER_DEADLINE`]. A request that may
    /// have reached the owner is never sent again.
    ///
    /// # Errors
    /// [`Code::Unavailable`] if the owner cannot be reached or is not available, [`Code::TooSlow`] if it does not
    /// answer in time, otherwise as [`Error::from_status`].
    pub async fn notify(&self, animal_name: &str, animal_type: &str) -> Result<(), Error> {
        let notified = call_within(OWNER_DEADLINE, |left| {
            let notification = NotifyRequest { animal_name: animal_name.into(), animal_type: animal_type.into() };
            let mut request = Request::new(notification);
            request.set_timeout(left);
            let mut client = self.client.clone();
            async move { client.notify(request).await }
        });
        notified.await.map(drop).map_err(|error| match error {
            CallError::NotReached(status) => {
                Error::new(Code::Unavailable(Who::Owner), format!("the owner cannot be reached: {}", cause(&status)))
            }
            CallError::TooSlow => {
                let message = format!("the owner did not answer within {} ms", OWNER_DEADLINE.as_millis());
                Error::new(Code::TooSlow(Who::Owner), message)
            }
            CallError::Failed(status) => Error::from_status(Who::Owner, &status),
        })
    }
}
