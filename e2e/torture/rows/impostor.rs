//! A machine that claims the name of a node by mDNS. The claims are sent by this program, started a second time on the
//! network of that machine, because no library would announce another machine's name.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::Duration;

use e2e::daemon::Daemon;
use e2e::hub::{Addresses, Hub, Surroundings};
use e2e::node::{Node, NodeOptions};
use e2e::ports;
use e2e::wait::until;
use rusqlite::Connection;

use super::{Outcome, Scale};
use crate::sandbox::{Network, have_namespaces, on, on_as};
use crate::watch::{PATIENCE, listening, live};

/// First word of the arguments of the program that sends the claims.
const CLAIM: &str = "--claim";

/// Group and port of mDNS.
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);

/// The name that both machines have.
const HOST: &str = "kitchen";

/// Class of a record that replaces what its receivers knew: the internet, with the cache-flush bit.
const FLUSH: u16 = 0x8001;

/// How often the claim is repeated.
const CLAIM_EVERY: Duration = Duration::from_millis(200);

/// How long the node is cut off, in seconds: long enough for the hub to dial again.
const CUT_S: u64 = 15;

pub(super) async fn run(_: Scale) -> Outcome {
    if let Err(why) = have_namespaces() {
        return Outcome::NotRun(why);
    }
    let mut network = Network::start(3);
    let ((kitchen, address), (stranger, claimed)) = (network.machine(), network.machine());
    let state = tempfile::tempdir().expect("a temporary folder");
    let port = ports::free().port();
    let node = Node::start(NodeOptions {
        listen: SocketAddr::new(address, port),
        state_folder: Some(state.path().join("state")),
        wrapper: on_as(&kitchen, HOST),
        ..NodeOptions::new("http://127.0.0.1:9")
    })
    .await;
    let url = format!("http://{HOST}.local:{port}");
    let surroundings = Surroundings { discover: true, ..Surroundings::default() };
    let mut hub = Hub::start_in(surroundings, Addresses::free(), &[("Tom", &url)], "").await;
    until(PATIENCE, "the node proves its id", || async {
        hub.get("/api/v1/nodes").await.json()["nodes"][0]["node_id"].as_str().map(drop)
    })
    .await;
    let before = live(&hub, &url, 100).await;
    let true_boot = node.describe().await.boot_id;

    // It has no key, and says nothing by mDNS itself: the claims are enough.
    let mut silent = on(&stranger);
    silent.extend(["env", "MEOWLINK_NODE_ANNOUNCE=false"].map(Into::into));
    let impostor = Node::start(NodeOptions {
        listen: SocketAddr::new(claimed, port),
        wrapper: silent,
        seed: 99,
        ..NodeOptions::new("http://127.0.0.1:9")
    })
    .await;
    let program = std::env::current_exe().expect("this program has a path");
    let claim = [CLAIM.to_owned(), claimed.to_string(), port.to_string()];
    let claims = Daemon::start_within(&on(&stranger), "claims", &program, &claim);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let connected = live(&hub, &url, before + 100).await;
    Network::plug(&kitchen, false);
    tokio::time::sleep(Duration::from_secs(CUT_S)).await;
    Network::plug(&kitchen, true);
    // The claims go on: the hub has to find the node all the same.
    let after = live(&hub, &url, connected + CUT_S * 50).await;
    let (subscribers, captured) = {
        let counters = impostor.describe().await.counters.expect("counters");
        (counters.subscribers, counters.frames_captured)
    };
    assert!(captured > 0, "the impostor has nothing to offer");
    let gaps = listening(&hub, &url).await.expect("a known node")["gaps"].clone();
    drop(claims);
    hub.daemon.kill();
    let boots = boots(&hub);
    assert!(
        boots.iter().all(|boot| boot.cast_unsigned() == true_boot),
        "the impostor was heard: boots {boots:?}, the node's is {true_boot}"
    );
    assert_eq!(subscribers, 0, "the hub listens to the impostor");
    assert_eq!(gaps, 0, "frames of the node were lost");
    Outcome::Held(format!(
        "cut off for {CUT_S} s amid claims: {} frames of the node, 0 of the impostor, 0 lost",
        after - before
    ))
}

/// The boots that the hub has heard.
fn boots(hub: &Hub) -> BTreeSet<i64> {
    let database = Connection::open(hub.data_folder().join("hub.sqlite")).expect("the database opens");
    let mut statement = database
        .prepare("SELECT boot_id FROM events UNION SELECT boot_id FROM watermarks UNION SELECT boot_id FROM gaps")
        .expect("tables");
    statement.query_map([], |row| row.get(0)).expect("rows").map(|row| row.expect("a row")).collect()
}

/// What the impostor claims.
pub(crate) struct Claim {
    address: Ipv4Addr,
    port: u16,
}

/// The claim to send, if this program was started for it.
pub(crate) fn claim() -> Option<Claim> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [CLAIM, address, port] => Some(Claim { address: address.parse().ok()?, port: port.parse().ok()? }),
        _ => None,
    }
}

impl Claim {
    /// Sends the claim again and again, until the process is killed.
    pub(crate) fn announce_for_ever(&self) -> ExitCode {
        let packet = self.packet();
        let socket = UdpSocket::bind((self.address, GROUP.1)).expect("the port of mDNS is free on this machine");
        loop {
            // An error means that the network is busy.
            let _ = socket.send_to(&packet, GROUP);
            std::thread::sleep(CLAIM_EVERY);
        }
    }

    /// An answer of mDNS that nobody asked for: a service of that name, on that host, at this address. Receivers are to
    /// forget what they knew of it (cache flush).
    fn packet(&self) -> Vec<u8> {
        let (ptr, srv, txt, a) = (12, 33, 16, 1);
        let service = proto::NODE_SERVICE;
        let instance = format!("Tom at {HOST}.{service}");
        let host = format!("{HOST}.local.");
        // An answer, authoritative, with four records.
        let mut packet = vec![0, 0, 0x84, 0, 0, 0, 0, 4, 0, 0, 0, 0];
        let mut record = |name: &[u8], kind: u16, class: u16, data: &[u8]| {
            packet.extend(name);
            packet.extend(kind.to_be_bytes());
            packet.extend(class.to_be_bytes());
            packet.extend(120_u32.to_be_bytes());
            packet.extend(u16::try_from(data.len()).expect("short data").to_be_bytes());
            packet.extend(data);
        };
        let instance = labels(&instance, &format!("Tom at {HOST}"));
        let mut place = vec![0, 0, 0, 0];
        place.extend(self.port.to_be_bytes());
        place.extend(labels(&host, ""));
        record(&labels(service, ""), ptr, 1, &instance);
        record(&instance, srv, FLUSH, &place);
        record(&instance, txt, FLUSH, &[0]);
        record(&labels(&host, ""), a, FLUSH, &self.address.octets());
        packet
    }
}

/// A name as DNS writes it. `first` is its first label if that holds a dot or a space, else it is empty.
fn labels(name: &str, first: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let rest = name.strip_prefix(first).unwrap_or(name);
    for label in std::iter::once(first).chain(rest.split('.')).filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).expect("a short label"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
