//! Limits how often somebody may try a password: for an address, and for a name.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failed log-ins of an address, or for a name, until further ones are refused.
pub(crate) const MAX_FAILURES: u32 = 10;

/// Time after the first failure until failures are forgotten.
pub(crate) const WINDOW: Duration = Duration::from_secs(600);

/// Most addresses and names that are counted. For one more, the oldest is forgotten.
const MAX_KEYS: usize = 4_096;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    Name(String),
}

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

/// Failed log-ins.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    failures: Mutex<HashMap<Key, Failures>>,
}

impl Attempts {
    /// Counts a log-in as failed, unless it succeeds later ([`Attempts::succeeded`]). Returns `false`, and counts
    /// nothing, if there were too many: the log-in must not be checked.
    pub(crate) fn begin(&self, address: Option<IpAddr>, name: &str, now: Instant) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, failures| now.duration_since(failures.since) < WINDOW);
        let keys = keys(address, name);
        let is_over = |key: &Key| failures.get(key).is_some_and(|failures| failures.count >= MAX_FAILURES);
        if keys.iter().any(is_over) {
            return false;
        }
        for key in keys {
            if failures.len() >= MAX_KEYS
                && !failures.contains_key(&key)
                && let Some(oldest) =
                    failures.iter().min_by_key(|(_, failures)| failures.since).map(|(key, _)| key.clone())
            {
                failures.remove(&oldest);
            }
            failures.entry(key).or_insert(Failures { count: 0, since: now }).count += 1;
        }
        true
    }

    /// The log-in has succeeded, so it does not count as failed.
    pub(crate) fn succeeded(&self, address: Option<IpAddr>, name: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys(address, name) {
            if let Some(failures) = failures.get_mut(&key) {
                failures.count = failures.count.saturating_sub(1);
            }
        }
    }
}

fn keys(address: Option<IpAddr>, name: &str) -> Vec<Key> {
    let address = address.map(|address| Key::Address(network(address)));
    address.into_iter().chain([Key::Name(name.to_owned())]).collect()
}

/// One customer of a provider has 64 bits of IPv6 addresses, which count as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            if address.is_loopback() { address.into() } else { Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into() }
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn address_and_name_have_a_limit_that_time_lifts() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..MAX_FAILURES {
            assert!(attempts.begin(ip("192.0.2.1"), &format!("name{number}"), now));
        }
        assert!(!attempts.begin(ip("::ffff:192.0.2.1"), "other", now), "the address, whatever its spelling");
        for number in 0..MAX_FAILURES {
            assert!(attempts.begin(ip(&format!("198.51.100.{number}")), "anna", now));
        }
        assert!(!attempts.begin(ip("203.0.113.1"), "anna", now), "the name");
        assert!(attempts.begin(ip("203.0.113.1"), "ben", now));
        assert!(attempts.begin(ip("192.0.2.1"), "anna", now + WINDOW));
    }

    #[test]
    fn success_does_not_count_and_the_table_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..3 * MAX_FAILURES {
            assert!(attempts.begin(ip("2001:db8::1"), "anna", now));
            attempts.succeeded(ip("2001:db8::2"), "anna");
        }
        for number in 0..2 * MAX_KEYS {
            attempts.begin(None, &format!("name{number}"), now);
        }
        assert_eq!(attempts.failures.lock().unwrap().len(), MAX_KEYS);
    }
}
