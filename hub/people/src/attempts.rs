//! Limits how often somebody may try a password: from one place for a name, from one place, and for a name.
//!
//! The limits for a place are low: a guesser uses up the tries of that place, and the user still logs in elsewhere. The
//! limit for the name alone is high, because anybody on the network can reach it, and then nobody logs in with this
//! name, except on the hub's own machine. It allows 14,400 guesses a day, or 5.3 million a year. To try all passwords
//! of eight lower-case letters (26^8, 2 * 10^11) takes 40,000 years, and all pairs of ten thousand common words (10^8)
//! 19 years. Only a password from a list of the thousand commonest falls: within two hours, or within a day at a tenth
//! of the limit.
//!
//! What counts against a name counts against its present password. A new password starts without failures, whichever
//! process of the hub has set it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Failed log-ins for a name from one place, until further ones are refused.
pub(crate) const MAX_FOR_NAME_FROM_PLACE: u32 = 10;

/// Failed log-ins from one place, for any name, until further ones are refused.
pub(crate) const MAX_FROM_PLACE: u32 = 30;

/// Failed log-ins for a name, from anywhere, until further ones are refused. See the text at the top.
pub(crate) const MAX_FOR_NAME: u32 = 100;

/// Failed log-ins through a proxy on this machine that is not trusted, for any name. All its clients share them.
pub(crate) const MAX_THROUGH_PROXY: u32 = 100;

/// Time after the first failure until failures are forgotten.
pub(crate) const WINDOW: Duration = Duration::from_secs(600);

/// Most places and names that are counted. For one more, the one with the fewest failures is forgotten.
const MAX_KEYS: usize = 4_096;

/// Where a log-in comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Client {
    /// The IP address, if it is known.
    pub address: Option<IpAddr>,
    /// Whether it is a program on the hub's own machine, and no proxy.
    pub is_local: bool,
}

/// What cannot be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    /// The hub's own machine.
    Machine,
    /// A proxy on the hub's machine that is not trusted to say who its clients are.
    Proxy,
    /// An address, or the first one of a network.
    Address(IpAddr),
}

/// A name with a part of what is kept of its password. It is empty if there is no such user.
pub(crate) type Account<'a> = (&'a str, &'a [u8]);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Place(Place),
    Name(String, Vec<u8>),
    NameFrom(String, Vec<u8>, Place),
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
    pub(crate) fn begin(&self, client: Client, account: Account<'_>, now: Instant) -> bool {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|_, failures| now.duration_since(failures.since) < WINDOW);
        let keys = keys(client, account);
        let is_over = |(key, most): &(Key, u32)| failures.get(key).is_some_and(|failures| failures.count >= *most);
        if keys.iter().any(is_over) {
            return false;
        }
        for (key, _) in keys {
            if failures.len() >= MAX_KEYS
                && !failures.contains_key(&key)
                // A flood of other names and addresses does not push out what has reached a limit.
                && let Some(least) = failures
                    .iter()
                    .min_by_key(|(_, failures)| (failures.count, failures.since))
                    .map(|(key, _)| key.clone())
            {
                failures.remove(&least);
            }
            failures.entry(key).or_insert(Failures { count: 0, since: now }).count += 1;
        }
        true
    }

    /// The log-in has succeeded, so it does not count as failed.
    pub(crate) fn succeeded(&self, client: Client, account: Account<'_>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, _) in keys(client, account) {
            if let Some(failures) = failures.get_mut(&key) {
                failures.count = failures.count.saturating_sub(1);
            }
        }
    }
}

/// What counts a log-in, each with its limit.
fn keys(client: Client, (name, password): Account<'_>) -> Vec<(Key, u32)> {
    let (name, password) = (name.to_owned(), password.to_vec());
    let place = place(client);
    let mut keys = Vec::new();
    if let Some(place) = place {
        keys.push((Key::Place(place), if place == Place::Proxy { MAX_THROUGH_PROXY } else { MAX_FROM_PLACE }));
        if place != Place::Proxy {
            keys.push((Key::NameFrom(name.clone(), password.clone(), place), MAX_FOR_NAME_FROM_PLACE));
        }
    }
    // Whoever guesses elsewhere does not lock the owner out of the hub's own machine.
    if place != Some(Place::Machine) {
        keys.push((Key::Name(name, password), MAX_FOR_NAME));
    }
    keys
}

fn place(client: Client) -> Option<Place> {
    if client.is_local {
        return Some(Place::Machine);
    }
    let address = client.address?.to_canonical();
    Some(if address.is_loopback() { Place::Proxy } else { Place::Address(network(address)) })
}

/// One customer of a provider has 64 bits of IPv6 addresses, which count as one. Addresses that are good at home alone
/// count one by one: all devices of the home have the first 64 bits in common.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) if !address.is_unique_local() && !address.is_unicast_link_local() => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: Account<'_> = ("anna", b"salt");

    fn at(address: &str) -> Client {
        Client { address: Some(address.parse().unwrap()), is_local: false }
    }

    fn here() -> Client {
        Client { is_local: true, ..at("127.0.0.1") }
    }

    /// Tries until it is refused. Returns how often it was not.
    fn exhaust(attempts: &Attempts, client: Client, account: Account<'_>, now: Instant) -> u32 {
        (0..10_000).find(|_| !attempts.begin(client, account, now)).unwrap()
    }

    #[test]
    fn guesses_from_one_place_lock_nobody_out_elsewhere() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        assert_eq!(exhaust(&attempts, at("192.0.2.1"), ANNA, now), MAX_FOR_NAME_FROM_PLACE);
        assert!(!attempts.begin(at("::ffff:192.0.2.1"), ANNA, now), "the address, whatever its spelling");
        assert!(attempts.begin(at("192.0.2.2"), ANNA, now), "anna logs in elsewhere");
        assert!(attempts.begin(at("192.0.2.1"), ("ben", b"pepper"), now), "ben logs in there");
        for number in 0..MAX_FROM_PLACE {
            attempts.begin(at("192.0.2.1"), (&format!("name{number}"), b""), now);
        }
        assert!(!attempts.begin(at("192.0.2.1"), ("carla", b""), now), "all names of the place");
        assert!(attempts.begin(at("192.0.2.1"), ANNA, now + WINDOW));
    }

    #[test]
    fn name_has_a_limit_that_a_new_password_and_the_machine_itself_do_not_have() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let guesses: u32 = (0..50).map(|host| exhaust(&attempts, at(&format!("198.51.100.{host}")), ANNA, now)).sum();
        assert_eq!(guesses, MAX_FOR_NAME);
        assert!(!attempts.begin(at("203.0.113.1"), ANNA, now));
        assert!(attempts.begin(here(), ANNA, now));
        assert!(attempts.begin(at("203.0.113.1"), ("anna", b"another salt"), now), "a new password");
        // A flood of other names does not make room for further guesses.
        for number in 0..2 * MAX_KEYS {
            attempts.begin(Client::default(), (&format!("name{number}"), b""), now + Duration::from_secs(1));
        }
        assert!(!attempts.begin(at("203.0.113.2"), ANNA, now));
    }

    #[test]
    fn devices_of_a_home_and_clients_of_a_proxy_count_apart_where_that_can_be_told() {
        for (one, other, are_one) in [
            ("2001:db8::1", "2001:db8::2", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("fe80::1", "fe80::2", false),
            ("fd00::1", "fd00::2", false),
            ("192.168.1.7", "192.168.1.8", false),
        ] {
            assert_eq!(place(at(one)) == place(at(other)), are_one, "{one} {other}");
        }
        let (attempts, now) = (Attempts::default(), Instant::now());
        assert_eq!(exhaust(&attempts, at("127.0.0.1"), ANNA, now), MAX_FOR_NAME, "through a proxy");
        assert!(attempts.begin(here(), ANNA, now), "no proxy");
        assert_eq!(exhaust(&attempts, here(), ANNA, now), MAX_FOR_NAME_FROM_PLACE - 1);
    }

    #[test]
    fn success_does_not_count_and_the_table_is_bounded() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for _ in 0..3 * MAX_FOR_NAME {
            assert!(attempts.begin(at("2001:db8::1"), ANNA, now));
            attempts.succeeded(at("2001:db8::2"), ANNA);
        }
        for number in 0..2 * MAX_KEYS {
            attempts.begin(Client::default(), (&format!("name{number}"), b""), now);
        }
        assert_eq!(attempts.failures.lock().unwrap().len(), MAX_KEYS);
    }
}
