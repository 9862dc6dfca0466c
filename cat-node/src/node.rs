//! The parts of a running node that its service and its metrics read.

use std::sync::Arc;

use daemon::identity::OwnKey;
use daemon::shutdown::CancellationToken;

use crate::owner::Owner;
use crate::status::Status;
use crate::subscribers::Subscribers;
use crate::tape::Tape;

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// The cat that the node listens to. Empty: none.
    pub cat: String,
    /// Its key, and its id. `None`: it has no state folder to keep one in.
    pub key: Option<OwnKey>,
    /// Whom `CallCat` notifies.
    pub owner: Owner,
    /// Who may have its sound.
    pub subscribers: Subscribers,
    /// The captured audio.
    pub tape: Arc<Tape>,
    /// State and counters of the source.
    pub status: Arc<Status>,
    /// Ends all streams.
    pub stop: CancellationToken,
}
