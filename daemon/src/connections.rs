//! The open connections of a server. They are bounded in all and for each address. A connection never waits for a
//! place: if all are taken, it takes the place of the connection that has been idle longest.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Limits on the connections of one server.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Most connections at the same time.
    pub all: usize,
    /// Most connections from one address at the same time. Loopback is exempt: a proxy brings many clients.
    pub per_address: usize,
    /// How long a new connection may take to its first complete request.
    pub first_request: Duration,
    /// How long a connection may be idle after that.
    pub idle: Duration,
}

/// The open connections of a server. Clones share them.
#[derive(Debug, Clone)]
pub struct Connections {
    caps: Caps,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    from: IpAddr,
    /// Requests that are complete and not answered yet.
    requests: usize,
    has_asked: bool,
    idle_since: Instant,
    ended: CancellationToken,
}

impl Connections {
    /// No connections yet.
    pub fn new(caps: Caps) -> Self {
        Self { caps, open: Arc::default() }
    }

    /// Admits a connection. If its address has all places that it may have, or all places are taken, an idle connection
    /// is ended for it. `None`: none of them is idle; the connection must be closed.
    pub fn admit(&self, from: IpAddr) -> Option<Place> {
        let from = from.to_canonical();
        let mut open = self.lock();
        let of_address = open.connections.values().filter(|connection| connection.from == from).count();
        if !from.is_loopback() && of_address >= self.caps.per_address {
            open.end_longest_idle(|address| address == from)?;
        } else if open.connections.len() >= self.caps.all {
            let crowd = open.address_with_most_idle();
            open.end_longest_idle(|address| Some(address) == crowd)?;
        }
        let id = open.next;
        open.next += 1;
        let ended = CancellationToken::new();
        let idle_since = Instant::now();
        let connection = Connection { from, requests: 0, has_asked: false, idle_since, ended: ended.clone() };
        open.connections.insert(id, connection);
        drop(open);
        Some(Place { id, from, ended, all: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn address_with_most_idle(&self) -> Option<IpAddr> {
        let mut counts = HashMap::<IpAddr, usize>::new();
        for connection in self.connections.values().filter(|connection| connection.requests == 0) {
            *counts.entry(connection.from).or_default() += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address)
    }

    fn end_longest_idle(&mut self, is_from: impl Fn(IpAddr) -> bool) -> Option<()> {
        let idle = |(_, connection): &(&u64, &Connection)| connection.requests == 0 && is_from(connection.from);
        let candidates = self.connections.iter().filter(idle);
        let id = *candidates.min_by_key(|(id, connection)| (connection.idle_since, **id))?.0;
        if let Some(connection) = self.connections.remove(&id) {
            connection.ended.cancel();
        }
        Some(())
    }
}

/// The place of an open connection. Dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    id: u64,
    from: IpAddr,
    ended: CancellationToken,
    all: Connections,
}

impl Place {
    /// The address of the client, IPv4 if it is one in IPv6.
    pub fn from(&self) -> IpAddr {
        self.from
    }

    /// Waits until another connection has taken the place.
    pub async fn taken_over(&self) {
        self.ended.cancelled().await;
    }

    /// Waits until the connection has been idle for longer than it may.
    pub async fn idle_for_too_long(&self) {
        loop {
            let until = {
                let open = self.all.lock();
                let Some(connection) = open.connections.get(&self.id) else { return };
                let allowed = if connection.has_asked { self.all.caps.idle } else { self.all.caps.first_request };
                let since = if connection.requests > 0 { Instant::now() } else { connection.idle_since };
                since + allowed
            };
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// A complete request has come. The connection is not idle until the [`Busy`] is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        if let Some(connection) = self.all.lock().connections.get_mut(&self.id) {
            connection.requests += 1;
            connection.has_asked = true;
        }
        Busy { place: Arc::clone(self) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.lock().connections.remove(&self.id);
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Busy {
    place: Arc<Place>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(connection) = self.place.all.lock().connections.get_mut(&self.place.id) {
            connection.requests -= 1;
            connection.idle_since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPS: Caps =
        Caps { all: 3, per_address: 2, first_request: Duration::from_secs(1), idle: Duration::from_secs(60) };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn longest_idle_connection_of_the_largest_crowd_goes() {
        let connections = Connections::new(CAPS);
        let other = connections.admit(ip("192.0.2.9")).unwrap();
        let first = connections.admit(ip("127.0.0.1")).unwrap();
        let second = connections.admit(ip("127.0.0.1")).unwrap();
        let third = connections.admit(ip("192.0.2.1")).unwrap();
        assert!(first.ended.is_cancelled(), "the longest idle one of the address with most");
        assert!(!other.ended.is_cancelled() && !second.ended.is_cancelled() && !third.ended.is_cancelled());
    }

    #[tokio::test]
    async fn busy_connections_stay() {
        let connections = Connections::new(CAPS);
        let places: Vec<_> = (0..3).map(|_| Arc::new(connections.admit(ip("127.0.0.1")).unwrap())).collect();
        let mut busy: Vec<_> = places.iter().map(Place::begin).collect();
        assert!(connections.admit(ip("192.0.2.1")).is_none());
        busy.pop();
        assert!(connections.admit(ip("192.0.2.1")).is_some());
        assert!(places[2].ended.is_cancelled());
    }

    #[tokio::test]
    async fn one_address_has_its_share_whatever_its_spelling() {
        let connections = Connections::new(CAPS);
        let first = connections.admit(ip("192.0.2.1")).unwrap();
        let second = connections.admit(ip("::ffff:192.0.2.1")).unwrap();
        let third = connections.admit(ip("192.0.2.1")).unwrap();
        assert!(first.ended.is_cancelled() && !second.ended.is_cancelled() && !third.ended.is_cancelled());
        drop((second, third));
        assert_eq!(connections.lock().connections.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn idle_time_runs_from_the_last_request_on() {
        let connections = Connections::new(CAPS);
        let silent = connections.admit(ip("192.0.2.1")).unwrap();
        let start = Instant::now();
        silent.idle_for_too_long().await;
        assert_eq!(start.elapsed().as_secs(), 1);
        let place = Arc::new(connections.admit(ip("192.0.2.2")).unwrap());
        let busy = place.begin();
        let (waiter, start) = (Arc::clone(&place), Instant::now());
        let ended = tokio::spawn(async move { waiter.idle_for_too_long().await });
        tokio::time::sleep(Duration::from_secs(300)).await;
        drop(busy);
        ended.await.unwrap();
        assert!((360..=420).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }
}
