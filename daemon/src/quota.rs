//! A limit on how many may do something at the same time, in all and for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places, each of which one caller can hold. Clones share them.
#[derive(Debug, Clone)]
pub struct Quota {
    all: usize,
    per_address: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All places are held. There are this many.
    All(usize),
    /// The address holds all places that it may have, this many.
    Address(usize),
}

impl Quota {
    /// `all` places, of which one address may hold `per_address`. Loopback may hold all of them, and so may callers
    /// whose address is unknown.
    pub fn new(all: usize, per_address: usize) -> Self {
        Self { all, per_address, taken: Arc::default() }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// If there is none.
    pub fn take(&self, from: Option<IpAddr>) -> Result<Permit, Full> {
        let from = from.map(|address| address.to_canonical()).filter(|address| !address.is_loopback());
        let mut taken = self.lock();
        if taken.all >= self.all {
            return Err(Full::All(self.all));
        }
        if let Some(address) = from {
            let of_address = taken.by_address.entry(address).or_default();
            if *of_address >= self.per_address {
                return Err(Full::Address(self.per_address));
            }
            *of_address += 1;
        }
        taken.all += 1;
        drop(taken);
        Ok(Permit { from, quota: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A held place. Dropping it frees the place.
#[derive(Debug)]
pub struct Permit {
    from: Option<IpAddr>,
    quota: Quota,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.quota.lock();
        taken.all -= 1;
        if let Some(address) = self.from
            && let Some(of_address) = taken.by_address.get_mut(&address)
        {
            *of_address -= 1;
            if *of_address == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_for_each_address() {
        let quota = Quota::new(4, 2);
        let take = |address: &str| quota.take(Some(address.parse().unwrap()));
        let held = [take("192.0.2.1").unwrap(), take("::ffff:192.0.2.1").unwrap()];
        assert_eq!(take("192.0.2.1").unwrap_err(), Full::Address(2));
        let local = [take("127.0.0.1").unwrap(), quota.take(None).unwrap()];
        assert_eq!(take("127.0.0.1").unwrap_err(), Full::All(4));
        drop(local);
        let more = [take("127.0.0.1").unwrap(), take("::1").unwrap()];
        drop(held);
        assert!(take("192.0.2.1").is_ok());
        drop(more);
        let taken = quota.lock();
        assert!(taken.all == 0 && taken.by_address.is_empty(), "{taken:?}");
    }
}
