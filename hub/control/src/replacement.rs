//! How far a long history has moved to the node that replaces another one.

use std::time::Duration;

use hub_base::error::{Code, Error};
use hub_store::Store;
use tokio::time::{Instant, sleep};

use crate::protocol::Answer;

/// After this time a command hears how far the history is, if it has not moved completely. Less than the time that an
/// exchange may take.
const REPORT_AFTER: Duration = Duration::from_secs(5);

/// How often the store is asked.
const LOOK: Duration = Duration::from_millis(100);

/// Waits a while until the history of a node has moved, and tells how far it is.
///
/// # Errors
/// [`Code::NotFound`] if no history of this node has moved in batches, and as of the store.
pub(crate) async fn progress(old: String, store: &Store) -> Result<Answer, Error> {
    let until = Instant::now() + REPORT_AFTER;
    loop {
        let Some(moved) = store.history_move(old.clone()).await? else {
            return Err(Error::new(Code::NotFound, format!("no history of a node {old:?} is moving")));
        };
        if moved.is_done {
            let (url, events, clips, labels) = (moved.url, moved.events, moved.clips, moved.labels);
            return Ok(Answer::Replaced { url, events, clips, labels });
        }
        if Instant::now() >= until {
            return Ok(Answer::Replacing { old, events: moved.events, events_left: moved.events_left });
        }
        sleep(LOOK).await;
    }
}
