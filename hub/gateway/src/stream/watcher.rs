//! A client of the update stream: its backlog, and the news that it waits for.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::response::sse::Event as Message;
use daemon::shutdown::CancellationToken;
use futures_util::Stream;
use hub_base::places::Place;
use hub_listen::live::{LiveSpectrum, News};
use hub_store::events::Event;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::kinds::{SPECTRUM, Wanted};
use super::message::{kind_of, lagged_message, message_of, spectrum_message};

/// A client of the update stream.
pub(super) struct Watcher {
    /// What happens from now on.
    pub(super) news: broadcast::Receiver<Arc<News>>,
    /// `None`: the client does not want spectra. The hub computes none while nobody watches them.
    pub(super) spectra: Option<broadcast::Receiver<Arc<LiveSpectrum>>>,
    /// Stored events that the client missed.
    pub(super) backlog: VecDeque<Event>,
    /// Events up to this number were sent, or were known to the client.
    pub(super) sent_id: i64,
    /// Which messages the client wants.
    pub(super) wanted: Wanted,
    /// Cancelled when the hub stops.
    pub(super) stop: CancellationToken,
    /// Counts this client among the open streams.
    pub(super) _place: Place,
}

impl Watcher {
    /// The messages, until the hub stops.
    pub(super) fn messages(self) -> impl Stream<Item = Result<Message, axum::Error>> {
        futures_util::stream::unfold(self, |mut watcher| async {
            let message = watcher.next().await?;
            Some((message, watcher))
        })
    }

    /// The next message. `None`: the hub stops.
    async fn next(&mut self) -> Option<Result<Message, axum::Error>> {
        loop {
            if let Some(event) = self.backlog.pop_front() {
                self.sent_id = event.id;
                if self.wanted.wants("event", Some(&event.found.node)) {
                    return Some(message_of(&News::Event(Box::new(event))));
                }
                continue;
            }
            let received = tokio::select! {
                received = self.news.recv() => received,
                spectrum = next_of(&mut self.spectra) => match spectrum {
                    Ok(spectrum) if self.wanted.wants(SPECTRUM, Some(&spectrum.node)) => {
                        return Some(spectrum_message(&spectrum));
                    }
                    // The client sees spectra that it missed as a jump of `first_sample`.
                    Ok(_) | Err(RecvError::Lagged(_)) => continue,
                    Err(RecvError::Closed) => return None,
                },
                () = self.stop.cancelled() => return None,
            };
            match received {
                Ok(news) => {
                    let (kind, node) = kind_of(&news);
                    if let News::Event(event) = &*news {
                        // The event was in the backlog too.
                        if event.id <= self.sent_id {
                            continue;
                        }
                        self.sent_id = event.id;
                    }
                    if self.wanted.wants(kind, node) {
                        return Some(message_of(&news));
                    }
                }
                Err(RecvError::Lagged(lost)) => {
                    return Some(lagged_message(lost));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// Waits forever if there are no spectra to wait for.
async fn next_of(spectra: &mut Option<broadcast::Receiver<Arc<LiveSpectrum>>>) -> Result<Arc<LiveSpectrum>, RecvError> {
    match spectra {
        Some(spectra) => spectra.recv().await,
        None => std::future::pending().await,
    }
}
