//! Who may have the node's sound, and the lines of the log that say who has it.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use daemon::allowance::Allowance;
use daemon::opening::PeerKey;
use tonic::Status;
use tracing::info;

use crate::pairing::Pairing;

/// Subscribers that are logged at once, and how many more are a second. Hubs that connect again and again, or a program
/// that does so to hide another, fill no disk.
const LINES_AT_ONCE: f64 = 32.0;
const LINES_A_SECOND: f64 = 0.1;

/// Who may have the sound.
#[derive(Debug)]
pub struct Subscribers {
    /// Whether everybody may who may call the node. False: paired hubs alone.
    live: bool,
    pairing: Option<Pairing>,
    lines: Mutex<Lines>,
}

impl Subscribers {
    /// With `live`, everybody who may call the node. `pairing` knows the names of hubs.
    pub fn new(live: bool, pairing: Option<Pairing>) -> Self {
        Self { live, pairing, lines: Mutex::new(Lines::full(Instant::now())) }
    }

    /// A subscriber from this address begins to get sound by `call`. Its key is that of a paired hub: nobody else
    /// reaches the service with one. The log says so, and that it has ended when the result is dropped.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` if the sound is for paired hubs, and the subscriber is not one.
    pub fn begin(&self, key: Option<&PeerKey>, from: Option<SocketAddr>, call: &'static str) -> Result<Visit, Status> {
        if !self.live && key.is_none() {
            return Err(Status::permission_denied(
                "this node gives its sound to paired hubs alone (listen_live = false): run `cat-node pair` on it, then \
                 `hub pair CODE HOST`",
            ));
        }
        let suppressed_lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        let subscriber = suppressed_lines.map(|suppressed_lines| {
            let subscriber = self.name(key, from);
            info!(subscriber, call, suppressed_lines, "subscriber connected");
            subscriber
        });
        Ok(Visit { subscriber, call, began: Instant::now() })
    }

    /// What the log calls a subscriber: the name of a paired hub and its address.
    fn name(&self, key: Option<&PeerKey>, from: Option<SocketAddr>) -> String {
        let address = from.map_or_else(|| "unknown".to_owned(), |from| from.to_string());
        let hub = key.zip(self.pairing.as_ref()).and_then(|(PeerKey(key), pairing)| {
            let key = pairing.hubs().keyring().present(key.fingerprint()).to_string();
            pairing.hubs().list().into_iter().find(|hub| hub.key == key)
        });
        match hub {
            Some(hub) if !hub.name.is_empty() => format!("{} at {address}", hub.name),
            Some(hub) => format!("{} at {address}", hub.key),
            None => address,
        }
    }
}

/// A subscriber that gets sound, for as long as this is there.
#[derive(Debug)]
pub struct Visit {
    /// `None`: its beginning was not logged, so its end is not either.
    subscriber: Option<String>,
    call: &'static str,
    began: Instant,
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(subscriber) = &self.subscriber {
            let seconds = self.began.elapsed().as_secs();
            info!(subscriber, call = self.call, seconds, "subscriber disconnected");
        }
    }
}

/// Which subscribers are logged.
#[derive(Debug)]
struct Lines {
    allowance: Allowance,
    suppressed: u64,
}

impl Lines {
    fn full(now: Instant) -> Self {
        Self { allowance: Allowance::new(LINES_AT_ONCE, LINES_A_SECOND, now), suppressed: 0 }
    }

    /// `Some(n)`: log this one; `n` were not logged before it. `None`: do not log it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if self.allowance.take(now) {
            return Some(std::mem::take(&mut self.suppressed));
        }
        self.suppressed += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LINE_EVERY: Duration = Duration::from_secs(10);

    #[test]
    fn some_subscribers_are_logged_at_once_and_then_one_in_a_while() {
        let start = Instant::now();
        let mut lines = Lines::full(start);
        for _ in 0..LINES_AT_ONCE as usize {
            assert_eq!(lines.take(start), Some(0));
        }
        let nearly = start + LINE_EVERY - Duration::from_millis(1);
        assert_eq!((lines.take(start), lines.take(nearly)), (None, None));
        assert_eq!(lines.take(start + LINE_EVERY), Some(2));
        assert_eq!(lines.take(start + LINE_EVERY), None);
        let later = start + LINE_EVERY * 1_000;
        let logged = (0..1_000).filter(|_| lines.take(later).is_some()).count();
        assert_eq!(logged, LINES_AT_ONCE as usize, "they do not add up");
    }
}
