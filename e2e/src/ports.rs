//! Finds free ports.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// First port. All are above the well-known ports and below 32768, where the local ports of outgoing connections begin.
const FIRST: u16 = 20_000;
const PORTS_A_PROCESS: u16 = 120;
const PROCESSES: u16 = 100;

/// An address on 127.0.0.1 with a free port. A process gets each address once; processes that run at the same time
/// usually have different ranges of ports.
///
/// # Panics
/// If no port of the range is left.
pub fn free() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let range = FIRST + (std::process::id() % u32::from(PROCESSES)) as u16 * PORTS_A_PROCESS;
    loop {
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(nth < PORTS_A_PROCESS, "no free port left from {range}");
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), range + nth);
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
