//! How often a code or a secret may be tried.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// How long a code is valid.
pub const CODE_HOLDS: Duration = Duration::from_secs(600);

/// How often a code may be tried from one address, wrong tries and right ones together. A message that does not
/// follow SPAKE2 does not count: it guesses nothing.
pub const TRIES: usize = 5;

/// How often a code may be tried in all. One address cannot use a code up, and this many guesses hit one of 2^40 codes
/// once in 50 thousand million.
pub const MAX_TRIES: usize = 4 * TRIES;

/// One try: when, and of which address.
pub(super) type Try = (Instant, Option<IpAddr>);

/// The tries of the last ten minutes ([`CODE_HOLDS`]), the oldest first. An address has [`TRIES`] in this time, and all
/// addresses together have [`MAX_TRIES`].
#[derive(Default)]
pub(super) struct Tries(VecDeque<Try>);

impl Tries {
    /// Takes a try of this address. `None`: the address or all together have no try left.
    pub(super) fn take(&mut self, from: Option<IpAddr>) -> Option<Try> {
        let (now, from) = (Instant::now(), from.map(|address| address.to_canonical()));
        self.0.retain(|(at, _)| now.duration_since(*at) < CODE_HOLDS);
        let from_there = self.0.iter().filter(|(_, address)| *address == from).count();
        if from_there >= TRIES || self.0.len() >= MAX_TRIES {
            return None;
        }
        self.0.push_back((now, from));
        Some((now, from))
    }

    /// Gives a try back that has guessed nothing.
    pub(super) fn give_back(&mut self, taken: Try) {
        if let Some(place) = self.0.iter().position(|other| *other == taken) {
            self.0.remove(place);
        }
    }

    /// How many tries count.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
