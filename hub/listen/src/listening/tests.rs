//! Live listening to a real gRPC server with a tape that the test writes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daemon::identity::Key;
use daemon::tls::TlsClient;
use hub_base::clock::{Clock, Reading};
use hub_nodes::Node;
use hub_nodes::testing::FakeNode;
use hub_store::Access;
use hub_store::clips::{ClipsConfig, Cut};
use hub_store::events::{EventFilter, NewGap, NoClip};
use hub_store::testing::{event, put_with};
use proto::cat_server::CatServer;
use proto::*;
use tokio_stream::wrappers::TcpListenerStream;

use super::*;
use crate::config::{self, ListenConfig};
use crate::ear::tests::{heard_in_one_go, room, same};
use crate::live::{self, News, NodeState};
use crate::monitor;

/// The longest wait before a test fails. No wait should come near it.
const SOON: Duration = Duration::from_secs(120);

const MINUTE: usize = 60 * 16_000;

/// A hub that listens, on its own runtime. Dropping the runtime is as close to a kill as a test can get.
struct Hub {
    runtime: Option<tokio::runtime::Runtime>,
    nodes: Nodes,
    listening: Listening,
    store: Store,
    clips: Clips,
    stop: CancellationToken,
}

impl Hub {
    async fn start(data_dir: &Path, node: SocketAddr) -> Self {
        Self::start_with(data_dir, &[format!("http://{node}")]).await
    }

    async fn start_with(data_dir: &Path, urls: &[String]) -> Self {
        Self::start_knowing(data_dir, urls, 0).await
    }

    /// The first `known` nodes have proved their ids before the hub listens.
    async fn start_knowing(data_dir: &Path, urls: &[String], known: usize) -> Self {
        let configs: Vec<_> = urls.iter().map(|url| format!("Tom={url}").parse().unwrap()).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let data_dir = data_dir.to_owned();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let started = runtime.spawn(async move {
            let store = open(&data_dir).await;
            let clips = ClipsConfig { reserve_mb: 0, ..ClipsConfig::default() };
            let clips = Clips::open(&data_dir, clips, store.clone()).await.unwrap();
            let nodes = Nodes::new(&configs).unwrap();
            for node in nodes.iter().take(known) {
                node.describe().await.unwrap();
            }
            let settings = Settings::default();
            let started = Listening::start(&settings, &nodes, store.clone(), clips.clone(), None, &stopped);
            (started.await.unwrap(), nodes, store, clips)
        });
        let (listening, nodes, store, clips) = started.await.unwrap();
        Self { runtime: Some(runtime), nodes, listening, store, clips, stop }
    }

    async fn spans(&self) -> Vec<(u64, u64)> {
        let all = EventFilter { linked: true, ..EventFilter::default() };
        let page = self.store.events(&all, None, 1_000).await.unwrap();
        let mut spans: Vec<_> =
            page.events.iter().map(|event| (event.found.start_sample, event.found.end_sample)).collect();
        spans.sort_unstable();
        spans
    }

    fn report(&self) -> live::NodeReport {
        self.listening.live().nodes()[0].report()
    }

    /// Waits until this many frames are analysed or lost.
    async fn heard(&self, frames: u64) {
        until("audio is heard", || async {
            let report = self.report();
            report.frames + report.lost_frames.values().sum::<u64>() >= frames
        })
        .await;
    }

    async fn gaps(&self) -> Vec<NewGap> {
        self.store.gaps(None, 100).await.unwrap()
    }

    /// As on SIGKILL: tasks stop wherever they are.
    fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// As on SIGTERM.
    async fn stop(mut self) -> Store {
        self.stop.cancel();
        tokio::time::timeout(SOON, self.listening.finish()).await.expect("it finishes");
        self.runtime.take().unwrap().shutdown_background();
        self.store
    }
}

#[tokio::test]
async fn nothing_is_deleted_by_age_while_the_clock_is_in_doubt_and_quotas_go_on() {
    let dir = tempfile::tempdir().unwrap();
    // A hundred years ahead, and not synchronised.
    let unix_ns = hub_base::time::now_ns() + 36_500 * 86_400_000_000_000;
    let clock = Clock::with(None, move || Reading { steady_ns: 0, unix_ns, synchronised: Some(false) });
    let store = Store::open_with(dir.path(), Access::Keeper, clock).unwrap();
    let clips = Clips::open(dir.path(), ClipsConfig { reserve_mb: 0, ..ClipsConfig::default() }, store.clone());
    let clips = clips.await.unwrap();
    put_with(&store, event("kitchen", 0), Err(NoClip::DiskFull)).await;
    for n in 1..=2 {
        let event = event("kitchen", n * 16_000);
        let cut = Cut { boot_id: event.boot_id, start_sample: event.start_sample, samples: vec![0; 8_000] };
        let clip = clips.keep(cut, &event).await;
        put_with(&store, event, clip).await;
    }
    let stop = CancellationToken::new();
    let mut settings = Settings::default();
    settings.events.keep_count = 2;
    let nodes = Nodes::new(&["http://127.0.0.1:9".parse().unwrap()]).unwrap();
    let listening = Listening::start(&settings, &nodes, store.clone(), clips, None, &stop).await.unwrap();
    // The quota comes last in a round.
    until("the surplus event is deleted", || async { store.event(1).await.unwrap().is_none() }).await;
    assert!(store.event(2).await.unwrap().unwrap().clip.is_ok());
    assert!(store.event(3).await.unwrap().unwrap().clip.is_ok());
    stop.cancel();
    listening.finish().await;
}

/// Opens the store. After a kill it is free once the last thread has gone.
async fn open(data_dir: &Path) -> Store {
    loop {
        match Store::open(data_dir, Access::Keeper) {
            Ok(store) => return store,
            Err(StoreError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, wait).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"));
}

fn assert_same(stored: &[(u64, u64)], truth: &[(u64, u64)]) {
    let all_same = stored.len() == truth.len() && stored.iter().zip(truth).all(|(a, b)| same(*a, *b));
    assert!(all_same, "stored {stored:?}\ntruth  {truth:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tape_holds_is_caught_up_with_and_then_what_comes() {
    let audio = room(1, 2 * MINUTE);
    let truth = heard_in_one_go(0xB007, &audio);
    let node = FakeNode::with(audio);
    node.change(|tape| tape.next = 3_000);
    let (dir, address) = (tempfile::tempdir().unwrap(), node.serve().await);
    let hub = Hub::start(dir.path(), address).await;
    let mut news = hub.listening.live().watch();
    hub.heard(3_000).await;
    node.change(|tape| tape.next = 6_000);
    hub.heard(6_000).await;
    assert_eq!(hub.report().state, NodeState::Live);
    assert_eq!(hub.report().gaps, 0);
    until("all events are stored", || async { hub.spans().await.len() >= truth.len() - 1 }).await;
    let store = hub.stop().await;
    let page = store.events(&EventFilter::default(), None, 1_000).await.unwrap();
    let mut spans: Vec<_> =
        page.events.iter().map(|event| (event.found.start_sample, event.found.end_sample)).collect();
    spans.sort_unstable();
    assert_same(&spans, &truth);
    assert!(page.events.iter().all(|event| event.clip.is_ok() && event.found.cat == "Tom"));
    let mut announced = 0;
    while let Ok(one) = news.try_recv() {
        announced += usize::from(matches!(*one, News::Event(_)));
    }
    assert_eq!(announced, truth.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_hub_goes_on_with_nothing_missing_and_nothing_twice() {
    let audio = room(2, 3 * MINUTE);
    let truth = heard_in_one_go(0xB007, &audio);
    let node = FakeNode::with(audio);
    let (dir, address) = (tempfile::tempdir().unwrap(), node.serve().await);
    // Each hub stores something and is killed while it works on the rest.
    for _ in 0..6 {
        let hub = Hub::start(dir.path(), address).await;
        let before = hub.spans().await.len();
        until("this life stores something", || async {
            let now = hub.spans().await.len();
            now > before || now == truth.len()
        })
        .await;
        hub.kill();
    }
    let hub = Hub::start(dir.path(), address).await;
    until("the end of the tape is heard", || async {
        hub.store
            .watermark(&format!("http://{address}"))
            .await
            .unwrap()
            .is_some_and(|mark| mark.settled_sample > truth.last().unwrap().1)
            || hub.spans().await.len() >= truth.len()
    })
    .await;
    let clips = hub.clips.clone();
    let store = hub.stop().await;
    let page = store.events(&EventFilter::default(), None, 1_000).await.unwrap();
    let mut spans: Vec<_> =
        page.events.iter().map(|event| (event.found.start_sample, event.found.end_sample)).collect();
    spans.sort_unstable();
    assert_same(&spans, &truth);
    assert_eq!(store.gaps(None, 100).await.unwrap(), []);
    // Every event has its clip, every clip its event.
    let on_disk = std::fs::read_dir(dir.path().join("clips")).unwrap().count();
    assert_eq!(on_disk, truth.len());
    for event in &page.events {
        let clip = event.clip.as_ref().unwrap();
        assert_eq!(clips.read(clip).await.unwrap().len() as u64, clip.wav_bytes());
    }
    let resumed = node.asked.lock().unwrap().clone();
    assert_eq!(resumed[0], Cursor { boot_id: 0, sequence: 0 });
    assert!(resumed[1..].iter().any(|cursor| cursor.boot_id == 0xB007 && cursor.sequence > 0), "{resumed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_connection_resumes_and_what_comes_twice_is_taken_once() {
    let audio = room(3, 2 * MINUTE);
    let truth = heard_in_one_go(0xB007, &audio);
    let node = FakeNode::with(audio);
    node.change(|tape| (tape.next, tape.repeats) = (2_003, 7));
    let (dir, address) = (tempfile::tempdir().unwrap(), node.serve().await);
    let hub = Hub::start(dir.path(), address).await;
    hub.heard(2_003).await;
    node.change(|tape| (tape.next, tape.cut) = (4_001, 1));
    hub.heard(4_001).await;
    node.change(|tape| (tape.next, tape.cut) = (6_000, 2));
    hub.heard(6_000).await;
    let report = hub.report();
    assert_eq!((report.frames, report.gaps, report.disconnects), (6_000, 0, 2));
    assert_eq!(report.duplicate_frames, 14);
    let last = node.asked.lock().unwrap().last().copied();
    assert_eq!(last, Some(Cursor { boot_id: 0xB007, sequence: 4_001 }));
    until("all events are stored", || async { hub.spans().await.len() >= truth.len() - 1 }).await;
    let store = hub.stop().await;
    assert_eq!(store.events(&EventFilter::default(), None, 1_000).await.unwrap().events.len(), truth.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempt_to_connect_is_not_a_connection_that_ended() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path(), closed).await;
    until("the node is away", || async { hub.report().state == NodeState::Away }).await;
    assert_eq!(hub.report().disconnects, 0);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_one_exact_gap() {
    let node = FakeNode::with(room(4, MINUTE));
    node.change(|tape| (tape.oldest, tape.lost) = (500, Some(1_000..1_250)));
    let (dir, address) = (tempfile::tempdir().unwrap(), node.serve().await);
    let hub = Hub::start(dir.path(), address).await;
    hub.heard(3_000).await;
    until("both gaps are stored", || async { hub.gaps().await.len() >= 2 }).await;
    let expected = |first, count, reason| (first, Some(count), reason);
    let stored: Vec<_> =
        hub.gaps().await.iter().map(|gap| (gap.first_sequence, gap.frame_count, gap.reason.as_str())).collect();
    assert_eq!(stored, [expected(1_000, 250, "device_lost"), expected(0, 500, "tape_overwritten"),]);
    assert_eq!(hub.report().frames, 3_000 - 750);
    // After a kill, hearing them again does not duplicate them.
    hub.kill();
    node.change(|tape| tape.cut += 1);
    let hub = Hub::start(dir.path(), address).await;
    until("it hears on", || async { hub.report().frames > 0 }).await;
    assert_eq!(hub.stop().await.gaps(None, 100).await.unwrap().len(), 2);
}

/// `cat-node/tests/resume.rs` tests the node's side.
#[tokio::test(flavor = "multi_thread")]
async fn hub_that_was_away_for_ten_minutes_has_the_events_of_one_that_was_not() {
    const MINUTE_FRAMES: u64 = 3_000;
    let audio = room(8, 11 * MINUTE);
    let truth = heard_in_one_go(0xB007, &audio);
    let node = FakeNode::with(audio);
    node.change(|tape| tape.next = MINUTE_FRAMES);
    let (dir, address) = (tempfile::tempdir().unwrap(), node.serve().await);
    let hub = Hub::start(dir.path(), address).await;
    hub.heard(MINUTE_FRAMES).await;
    let name = format!("http://{address}");
    let resumes_from = || async { hub.store.watermark(&name).await.unwrap().map_or(0, |mark| mark.resume_sequence) };
    until("it is stored how far", || async { resumes_from().await > 0 }).await;
    hub.kill();
    node.change(|tape| (tape.next, tape.cut) = (11 * MINUTE_FRAMES, 1));
    let hub = Hub::start(dir.path(), address).await;
    let mut heard_before = None;
    for minute in 1..=10 {
        hub.heard(minute * MINUTE_FRAMES).await;
        heard_before.get_or_insert(node.asked.lock().unwrap()[1].sequence);
    }
    let resumed_from = heard_before.unwrap();
    assert!(resumed_from > 0, "it started over");
    hub.heard(11 * MINUTE_FRAMES - resumed_from).await;
    assert_eq!(hub.report().frames, 11 * MINUTE_FRAMES - resumed_from);
    assert_eq!(hub.gaps().await, []);
    let store = hub.stop().await;
    let page = store.events(&EventFilter::default(), None, 1_000).await.unwrap();
    let mut spans: Vec<_> =
        page.events.iter().map(|event| (event.found.start_sample, event.found.end_sample)).collect();
    spans.sort_unstable();
    assert_same(&spans, &truth);
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_node_is_heard_from_its_beginning() {
    let audio = room(5, MINUTE);
    let truth = heard_in_one_go(77, &audio);
    let node = FakeNode::with(audio);
    node.change(|tape| tape.next = 1_000);
    let (dir, address) = (tempfile::tempdir().unwrap(), node.serve().await);
    let hub = Hub::start(dir.path(), address).await;
    hub.heard(1_000).await;
    let before = hub.spans().await;
    node.change(|tape| (tape.boot_id, tape.next) = (77, 3_000));
    hub.heard(4_000).await;
    until("the restart is stored", || async { hub.gaps().await.len() == 1 }).await;
    let gap = &hub.gaps().await[0];
    assert_eq!((gap.boot_id, gap.first_sequence, gap.frame_count), (0xB007, 1_000, None));
    assert_eq!(gap.reason.as_str(), "node_restarted");
    let store = hub.stop().await;
    let page = store.events(&EventFilter::default(), None, 1_000).await.unwrap();
    let of_new: Vec<_> = page.events.iter().rev().filter(|event| event.found.boot_id == 77).collect();
    let spans: Vec<_> = of_new.iter().map(|event| (event.found.start_sample, event.found.end_sample)).collect();
    assert_same(&spans, &truth);
    assert!(page.events.len() >= of_new.len() + before.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_learns_the_time_later_has_its_events_dated_again() {
    let audio = room(1, 4 * MINUTE);
    let node = FakeNode::with(audio);
    node.change(|tape| (tape.next, tape.knows_the_time) = (2_000, false));
    let (dir, address) = (tempfile::tempdir().unwrap(), node.serve().await);
    let hub = Hub::start(dir.path(), address).await;
    until("an event is stored", || async { !hub.spans().await.is_empty() }).await;
    hub.heard(2_000).await;
    let clock_of = |event: &hub_store::events::Event| (event.found.clock.as_str(), event.found.started_at_ns);
    let first = hub.store.event(1).await.unwrap().unwrap();
    assert_eq!(clock_of(&first).0, "hub");
    assert!(clock_of(&first).1 > 1_700_000_000_000_000_000, "by the hub's clock it is now: {first:?}");
    node.change(|tape| (tape.next, tape.knows_the_time) = (2_001, true));
    // The other start is believed once the node has been asked again, and the next frame has come.
    until("the event has its new date", || async {
        node.change(|tape| tape.next = (tape.next + 1).min(12_000));
        clock_of(&hub.store.event(1).await.unwrap().unwrap()).0 == "node"
    })
    .await;
    let first = hub.store.event(1).await.unwrap().unwrap();
    let started_unix_ns = node.tape.borrow().started_unix_ns;
    assert_eq!(first.found.started_at_ns, started_unix_ns + first.found.started_monotonic_ns.cast_signed());
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_is_down_is_found_when_it_comes() {
    let address = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path(), address).await;
    until("it is known to be away", || async { hub.report().state == NodeState::Away }).await;
    assert!(!hub.report().error.is_empty());
    let node = FakeNode::with(room(1, MINUTE / 4));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let server = tonic::transport::Server::builder().add_service(CatServer::new(node.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    hub.heard(750).await;
    let report = hub.report();
    assert_eq!((report.error.as_str(), report.gaps), ("", 0));
    hub.stop().await;
}

#[test]
fn config_that_makes_no_sense_names_its_key() {
    assert!(ListenConfig::default().check().is_ok());
    for frame_ms in [0, 30] {
        let error = ListenConfig { frame_ms, ..ListenConfig::default() }.check().unwrap_err().to_string();
        assert!(error.starts_with("listen.frame_ms: "), "{error}");
    }
}

#[test]
fn threads_are_as_many_as_said_or_one_a_core() {
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(ListenConfig::default().threads(), cores.min(config::MOST_THREADS));
    assert_eq!(ListenConfig { threads: 8, ..ListenConfig::default() }.threads(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_is_found_later_is_listened_to_from_where_it_was_last_heard() {
    let first = FakeNode::with(vec![0; MINUTE / 60]);
    let found = FakeNode::with(vec![0; MINUTE]);
    found.change(|tape| tape.boot_id = 0xF0);
    let (dir, address, found_address) = (tempfile::tempdir().unwrap(), first.serve().await, found.serve().await);
    let url = format!("http://{found_address}");
    let heard = |hub: &Hub| hub.listening.live().nodes().get(1).map(|node| node.report()).unwrap_or_default();

    let hub = Hub::start(dir.path(), address).await;
    hub.heard(50).await;
    assert_eq!(hub.listening.live().nodes().len(), 1);
    hub.nodes.add(Node::discovered(url.clone()).unwrap()).unwrap();
    until("the found node is heard", || async { heard(&hub).frames >= 3_000 }).await;
    assert_eq!(hub.listening.live().nodes()[1].name(), url);
    hub.stop().await;

    let hub = Hub::start(dir.path(), address).await;
    hub.nodes.add(Node::discovered(url.clone()).unwrap()).unwrap();
    until("the found node is asked again", || async { found.asked.lock().unwrap().len() == 2 }).await;
    let asked = found.asked.lock().unwrap()[1];
    assert_eq!(asked.boot_id, 0xF0);
    assert!(asked.sequence > 2_000, "{asked:?}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_is_paired_under_its_own_url_is_listened_to() {
    let fake = FakeNode::with(vec![0; MINUTE / 60]);
    let (dir, address) = (tempfile::tempdir().unwrap(), fake.serve().await);
    let url = format!("http://{address}");
    let hub = Hub::start(dir.path(), address).await;
    hub.heard(50).await;
    let before = hub.listening.live().nodes()[0].clone();
    let (own, theirs) = (Arc::new(Key::generate().unwrap().0), Key::generate().unwrap().0.id());
    let paired = |url: &str, cat: Option<&str>| {
        let tls = TlsClient::new(Arc::clone(&own), vec![theirs.into()]).unwrap();
        Node::paired(url.to_owned(), cat, theirs, tls).ok()
    };
    hub.nodes.set_paired(std::slice::from_ref(&url), paired).unwrap();
    until("the paired node is listened to in place of the other", || async {
        let nodes = hub.listening.live().nodes();
        matches!(&nodes[..], [now] if now.name() == url && !Arc::ptr_eq(now, &before))
    })
    .await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_under_a_second_name_is_not_heard_twice() {
    let node = FakeNode::with(vec![0; MINUTE / 60]);
    let (dir, address, second) = (tempfile::tempdir().unwrap(), node.serve().await, node.serve().await);
    let hub = Hub::start(dir.path(), address).await;
    hub.heard(50).await;
    hub.nodes.iter().next().unwrap().describe().await.unwrap();
    hub.nodes.add(Node::discovered(format!("http://{second}")).unwrap()).unwrap();
    let report = || hub.listening.live().nodes().get(1).map(|node| node.report()).unwrap_or_default();
    until("the second name is known to be the same node", || async { report().state == NodeState::Away }).await;
    assert!(report().error.contains(&address.to_string()), "{}", report().error);
    assert_eq!((report().frames, node.asked.lock().unwrap().len()), (0, 1));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_swap_their_names_are_both_heard_while_each_name_leads_to_both() {
    let (one, two) = (FakeNode::with(vec![0; MINUTE / 60]), FakeNode::with(vec![0; MINUTE / 60]));
    two.change(|tape| tape.boot_id = 2);
    let (dir, at_one, at_two) = (tempfile::tempdir().unwrap(), one.serve().await, two.serve().await);
    let hub = Hub::start(dir.path(), at_one).await;
    let (nodes, stop) = (hub.nodes.clone(), hub.stop.clone());
    tokio::spawn(async move { nodes.keep_described(&stop).await });
    hub.heard(50).await;
    let second = Node::discovered("http://two.local:50056".into()).unwrap();
    second.set_addresses(vec![at_one]);
    hub.nodes.add(second.clone()).unwrap();
    let report = || hub.listening.live().nodes().get(1).map(|node| node.report()).unwrap_or_default();
    until("the second name leads to the first node", || async { report().error.contains("the same node") }).await;
    second.set_addresses(vec![at_one, at_two]);
    until("the second node is heard", || async { report().frames >= 50 }).await;
    assert_eq!((report().boot_id, hub.report().boot_id), (2, 0xB007));
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_nodes_hear_of_one_sound_is_one_event_of_the_louder() {
    let audio = room(3, MINUTE);
    let truth = heard_in_one_go(0xB007, &audio);
    let quiet = audio.iter().map(|sample| sample / 2).collect();
    let (near, far) = (FakeNode::with(audio), FakeNode::with(quiet));
    // Their clocks are 150 ms apart.
    let start_ns = hub_base::time::now_ns() - 60_000_000_000;
    near.change(|tape| tape.started_unix_ns = start_ns);
    far.change(|tape| (tape.boot_id, tape.started_unix_ns) = (2, start_ns + 150_000_000));
    let urls = [near.serve().await, far.serve().await].map(|address| format!("http://{address}"));
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start_with(dir.path(), &urls).await;
    let frames = || hub.listening.live().nodes().iter().map(|node| node.report().frames).min();
    until("both nodes are heard", || async { frames() >= Some(3_000) }).await;
    let store = hub.stop().await;
    let shown = store.events(&EventFilter::default(), None, 1_000).await.unwrap().events;
    assert_eq!(shown.len(), truth.len());
    for event in &shown {
        assert_eq!((&event.found.node, event.also_heard_by()), (&urls[0], vec![&*urls[1]]), "{}", event.id);
        assert!(event.clip.is_ok());
    }
}

fn node_at(address: SocketAddr) -> Node {
    let nodes = Nodes::new(&[format!("http://{address}").parse().unwrap()]).unwrap();
    nodes.iter().next().unwrap()
}

/// The next `samples` samples of a live stream of sound.
async fn heard_live(audio: &mut mpsc::Receiver<bytes::Bytes>, samples: usize) -> Vec<i16> {
    let mut bytes = Vec::new();
    while bytes.len() < 2 * samples {
        let piece = tokio::time::timeout(SOON, audio.recv()).await.expect("audio comes");
        bytes.extend(piece.expect("the audio goes on"));
    }
    let (pairs, rest) = bytes.as_chunks::<2>();
    assert_eq!(rest, [0_u8; 0]);
    pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect()
}

#[tokio::test]
async fn live_sound_is_the_last_second_then_what_comes_with_silence_for_gaps() {
    let audio: Vec<i16> = (0..1_000 * 320).map(|n| (n % 30_000) as i16 + 1).collect();
    let node = FakeNode::with(audio.clone());
    node.change(|tape| {
        tape.next = 500;
        tape.lost = Some(510..515);
    });
    let stop = CancellationToken::new();
    let mut live = monitor::open(&node_at(node.serve().await), stop.clone()).await.unwrap();
    assert_eq!(heard_live(&mut live, 16_000).await, audio[450 * 320..500 * 320]);
    node.change(|tape| tape.next = 520);
    let heard = heard_live(&mut live, 20 * 320).await;
    assert_eq!(heard[..3_200], audio[500 * 320..510 * 320]);
    assert_eq!(heard[3_200..4_800], [0; 1_600]);
    assert_eq!(heard[4_800..], audio[515 * 320..520 * 320]);
    stop.cancel();
    assert!(tokio::time::timeout(SOON, live.recv()).await.expect("it ends").is_none());
}

#[tokio::test]
async fn live_sound_ends_for_a_client_that_falls_behind_and_for_one_that_hangs_up() {
    let node = FakeNode::with(room(7, MINUTE));
    node.change(|tape| tape.next = 100);
    let address = node.serve().await;
    let mut slow = monitor::open(&node_at(address), CancellationToken::new()).await.unwrap();
    let gone = monitor::open(&node_at(address), CancellationToken::new()).await.unwrap();
    drop(gone);
    // The queue holds ten seconds; a minute comes.
    node.change(|tape| tape.next = 3_000);
    let heard = tokio::time::timeout(SOON, async {
        let mut pieces = 0;
        // The client reads nothing while the node sends everything at once.
        until("the stream is cut off", || async { slow.is_closed() }).await;
        while slow.recv().await.is_some() {
            pieces += 1;
        }
        pieces
    });
    assert_eq!(heard.await.expect("it is cut off"), 100);
    until("no stream is open any more", || async { node.tape.receiver_count() == 0 }).await;
}

#[tokio::test]
async fn spectrum_is_drawn_only_while_somebody_watches() {
    let folder = tempfile::tempdir().unwrap();
    let node = FakeNode::with(room(7, MINUTE));
    node.change(|tape| tape.next = 50);
    let hub = Hub::start(folder.path(), node.serve().await).await;
    hub.heard(50).await;
    let live = hub.listening.live();
    assert!(!live.spectra_are_watched());
    let mut spectra = live.watch_spectra();
    node.change(|tape| tape.next = 100);
    hub.heard(100).await;
    let mut columns = 0;
    let first = tokio::time::timeout(SOON, spectra.recv()).await.expect("a spectrum comes").unwrap();
    let mut next = first.first_sample;
    assert_eq!((first.boot_id, next % 320), (0xB007, 0));
    for spectrum in std::iter::once(first).chain(std::iter::from_fn(|| spectra.try_recv().ok())) {
        assert_eq!(spectrum.first_sample, next, "each follows the one before");
        next += spectrum.columns.len() as u64 * 1_024;
        columns += spectrum.columns.len();
        assert!(spectrum.columns.iter().flatten().any(|level| *level > 0), "a room is not silent");
    }
    assert!((10..=16).contains(&columns), "{columns} columns of a second");
    drop(spectra);
    assert!(!live.spectra_are_watched());
    hub.stop().await;
}

fn new_key() -> Option<Arc<Key>> {
    Some(Arc::new(Key::generate().unwrap().0))
}

/// The spans of all events, those that are stored twice too.
async fn spans_in(store: &Store) -> Vec<(u64, u64)> {
    let all = EventFilter { linked: true, ..EventFilter::default() };
    let page = store.events(&all, None, 1_000).await.unwrap();
    let mut spans: Vec<_> =
        page.events.iter().map(|event| (event.found.start_sample, event.found.end_sample)).collect();
    spans.sort_unstable();
    spans
}

#[tokio::test(flavor = "multi_thread")]
async fn node_whose_url_changes_goes_on_with_nothing_missing_and_nothing_twice() {
    for key in [None, new_key()] {
        let audio = room(9, 2 * MINUTE);
        let truth = heard_in_one_go(0xB007, &audio);
        let node = FakeNode::with(audio);
        node.change(|tape| (tape.next, tape.key) = (3_000, key.clone()));
        let (dir, address) = (tempfile::tempdir().unwrap(), node.serve().await);
        let hub = Hub::start(dir.path(), address).await;
        hub.heard(3_000).await;
        drop(hub.stop().await);
        node.change(|tape| tape.next = 6_000);
        let hub = Hub::start_with(dir.path(), &[format!("http://localhost:{}", address.port())]).await;
        let resumed_from = || node.asked.lock().unwrap().get(1).map_or(0, |cursor| cursor.sequence);
        until("it is asked", || async { resumed_from() > 0 }).await;
        hub.heard(6_000 - resumed_from()).await;
        assert_same(&spans_in(&hub.stop().await).await, &truth);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_under_two_urls_is_heard_once() {
    let audio = room(10, MINUTE);
    let truth = heard_in_one_go(0xB007, &audio);
    let node = FakeNode::with(audio);
    node.change(|tape| tape.key = new_key());
    let (dir, address) = (tempfile::tempdir().unwrap(), node.serve().await);
    let urls = [format!("http://{address}"), format!("http://localhost:{}", address.port())];
    // Otherwise the second URL may be the first that answers, and some of the audio is heard under it.
    let hub = Hub::start_knowing(dir.path(), &urls, 1).await;
    let (nodes, stop) = (hub.nodes.clone(), hub.stop.clone());
    tokio::spawn(async move { nodes.keep_described(&stop).await });
    hub.heard(3_000).await;
    until("the second URL is known to be the same node", || async {
        hub.listening.live().nodes()[1].report().error.contains("the same node")
    })
    .await;
    assert_same(&spans_in(&hub.stop().await).await, &truth);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_at_the_same_url_is_heard_from_its_own_place_and_an_impostor_is_not() {
    let node = FakeNode::with(room(11, MINUTE));
    node.change(|tape| (tape.next, tape.key) = (2_000, new_key()));
    let (dir, address) = (tempfile::tempdir().unwrap(), node.serve().await);
    let hub = Hub::start(dir.path(), address).await;
    hub.heard(2_000).await;
    // It proves no id, or another one, and still says that it is in the same boot.
    for key in [None, new_key()] {
        node.change(|tape| (tape.key, tape.cut) = (key, tape.cut + 1));
        until("the impostor is refused", || async { hub.report().error.contains("whose key it does not hold") }).await;
    }
    assert_eq!(hub.report().frames, 2_000);
    // Two nodes have swapped their addresses: nothing is lost of the one that was heard here before.
    node.change(|tape| (tape.key, tape.boot_id, tape.next) = (new_key(), 77, 1_000));
    hub.heard(3_000).await;
    assert_eq!(node.asked.lock().unwrap().last(), Some(&Cursor { boot_id: 0, sequence: 0 }));
    assert_eq!(hub.gaps().await, []);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stranger_at_the_address_of_a_discovered_node_is_not_heard_and_not_remembered() {
    let (first, found) = (FakeNode::with(vec![0; MINUTE / 60]), FakeNode::with(vec![0; MINUTE]));
    found.change(|tape| (tape.boot_id, tape.next, tape.key) = (0xF0, 1_000, new_key()));
    let (dir, address, found_at) = (tempfile::tempdir().unwrap(), first.serve().await, found.serve().await);
    let hub = Hub::start(dir.path(), address).await;
    hub.nodes.add(Node::discovered(format!("http://{found_at}")).unwrap()).unwrap();
    let report = || hub.listening.live().nodes().get(1).map(|node| node.report()).unwrap_or_default();
    until("the found node is heard", || async { report().frames >= 1_000 }).await;
    found.change(|tape| (tape.boot_id, tape.key, tape.cut) = (0xF1, new_key(), tape.cut + 1));
    until("the stranger is refused", || async { report().error.contains("waits to be admitted") }).await;
    assert_eq!((report().frames, found.asked.lock().unwrap().len()), (1_000, 1));
    assert_eq!(hub.stop().await.admitted().await.unwrap().ids.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn event_that_is_under_way_when_its_node_is_forgotten_is_stored_at_once() {
    // The first event from here on lasts long enough to be one without what follows.
    let audio = room(12, MINUTE).split_off(15 * 16_000);
    let truth = heard_in_one_go(0xB007, &audio);
    let (first, found) = (FakeNode::with(vec![0; MINUTE / 60]), FakeNode::with(audio));
    // The tape ends before the post-roll of the first event is complete.
    let frames = truth[0].1 / 320 + 5;
    found.change(|tape| tape.next = frames);
    let (dir, address, found_at) = (tempfile::tempdir().unwrap(), first.serve().await, found.serve().await);
    let hub = Hub::start(dir.path(), address).await;
    let url = format!("http://{found_at}");
    hub.nodes.add(Node::discovered(url.clone()).unwrap()).unwrap();
    let report = || hub.listening.live().nodes().get(1).map(|node| node.report()).unwrap_or_default();
    until("the found node is heard", || async { report().frames >= frames }).await;
    hub.nodes.forget(&url);
    until("the event is stored", || async { !hub.spans().await.is_empty() }).await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn incredible_gap_ends_the_stream_with_the_reason() {
    let node = FakeNode::with(room(1, MINUTE));
    node.change(|tape| (tape.next, tape.lost) = (3_000, Some(100..u64::MAX)));
    let (dir, address) = (tempfile::tempdir().unwrap(), node.serve().await);
    let hub = Hub::start(dir.path(), address).await;
    until("the stream is refused", || async { hub.report().error.contains("is not credible") }).await;
    assert_eq!((hub.report().state, hub.report().gaps), (NodeState::Away, 0));
    // An honest node goes on where the hub is.
    node.change(|tape| tape.lost = None);
    hub.heard(2_900).await;
    hub.stop().await;
}
