//! What the node costs, and how late its audio is. Start it with `run` in this folder, which explains more.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // A benchmark panics like a test, and prints.

mod hub;
mod process;
#[allow(dead_code)] // Tests use more of it.
#[path = "../../microphone/pulse.rs"]
mod pulse;

use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use e2e::binaries::{binaries, workspace};
use e2e::daemon::{Daemon, Signal};
use e2e::node::{Node, NodeOptions, channel};
use e2e::ports;
use e2e::wait::{SOON, until, within};
use hub::Lateness;
use process::{Cost, Usage, instructions_a_second};
use proto::cat_client::CatClient;
use proto::listen_response::Event;
use proto::{DescribeRequest, ListenRequest};
use pulse::{Player, Pulse};
use tonic::transport::Channel;

/// The microphone of the room. It is named, because a monitor is never a microphone by default.
const MICROPHONE: &str = "microphone:pulse:room.monitor";

/// How long each line is measured, in seconds.
const SECONDS: u64 = 20;

/// How long the node and its subscribers settle before they are measured.
const SETTLE: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() {
    let seconds = seconds();
    let _server = Pulse::start().await;
    let noise = pulse::folder().join("noise.wav");
    let made = Command::new("sox")
        .args(["-n", "-r", "48000", "-b", "16", "-c", "1"])
        .arg(&noise)
        .args(["synth", "1200", "pinknoise", "gain", "-20"])
        .status()
        .expect("sox starts");
    assert!(made.success());
    let _player = Player::play(&noise).await;

    let meows = format!("wav:{}", workspace().join("demo/meows").display());
    println!("| what | subscribers | CPU µs/s | share of a core | Minstr/s | RSS MiB | latency ms p50 | p99 |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut microphone = Vec::new();
    for source in ["synthetic", &meows, MICROPHONE] {
        let name = source.split(':').next().unwrap();
        for subscribers in [0, 1, 10] {
            let mut line = measure_node(source, subscribers, seconds).await;
            if subscribers == 1 && line.cost.instructions_a_second.is_none() {
                line.cost.instructions_a_second = emulated_instructions_a_second(source, seconds).await;
            }
            print_line(&format!("cat-node {name}"), subscribers, &line);
            if source == MICROPHONE && subscribers < 2 {
                microphone.push((subscribers, line.cost.cpu_us_a_second));
            }
        }
    }
    let mut peers = Vec::new();
    for (name, program, arguments) in PEERS {
        let cost = measure_peer(program, arguments, seconds).await;
        peers.push((program, cost.cpu_us_a_second));
        print_line(name, 1, &Line { cost, latency: None });
    }
    print_shares(&microphone, &peers);

    println!("\n| capture to hub | frame ms | latency ms p50 | p99 | aim | frames |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    for (source, frame_ms) in [("synthetic", 20), (MICROPHONE, 20), (MICROPHONE, 100)] {
        let Lateness { p50_ms, p99_ms, frames } = hub::measure(source, frame_ms, HUB_SECONDS.max(seconds)).await;
        let aim_ms = frame_ms + ADDED_MS;
        let name = source.split(':').next().unwrap();
        println!("| {name} | {frame_ms} | {p50_ms:.0} | {p99_ms:.0} | {aim_ms} | {frames} |");
    }
}

/// The hub reports five messages per second, so the 99th percentile needs a longer run.
const HUB_SECONDS: u64 = 60;

/// The aim: what capture, node, wire and hub may add to the length of a message, 99 times in 100.
const ADDED_MS: u32 = 10;

/// The aim: how many times the processor time of `parecord` the node may take behind a sound server.
const TIMES_PARECORD: f64 = 1.5;

/// Compares the node that captures, by subscribers, with its peers: processor time for a minute of audio.
fn print_shares(microphone: &[(usize, f64)], peers: &[(&str, f64)]) {
    println!("\n| captures behind a sound server | CPU ms a minute | times parecord | times arecord |");
    println!("| --- | ---: | ---: | ---: |");
    let lines = microphone.iter().map(|(subscribers, cost)| (format!("cat-node, {subscribers} subscribers"), *cost));
    for (what, cost) in lines.chain(peers.iter().map(|(name, cost)| ((*name).to_owned(), *cost))) {
        let times: String = peers.iter().map(|(_, peer)| format!(" {:.2} |", cost / peer)).collect();
        println!("| {what} | {:.0} |{times}", cost * 60.0 / 1e3);
    }
    println!("The aim: at most {TIMES_PARECORD} times parecord.");
}

/// Other programs that send the same audio to one receiver: 16 kHz, mono, 16 bits, 20 ms at a time.
const PEERS: [(&str, &str, &[&str]); 2] = [
    (
        "parecord to a socket",
        "parecord",
        &["--raw", "--format=s16le", "--rate=16000", "--channels=1", "--latency-msec=20", "--process-time-msec=20"],
    ),
    (
        "arecord to a socket",
        "arecord",
        &[
            "-q",
            "-D",
            "default",
            "-t",
            "raw",
            "-f",
            "S16_LE",
            "-r",
            "16000",
            "-c",
            "1",
            "--period-time=20000",
            "--buffer-time=80000",
        ],
    ),
];

/// `--seconds N`.
fn seconds() -> u64 {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => SECONDS,
        ["--seconds", seconds] => seconds.parse().expect("--seconds takes a number"),
        _ => panic!("usage: run [--seconds N]"),
    }
}

/// One line of the table.
struct Line {
    cost: Cost,
    /// Median and 99th percentile of the time from the capture of a frame's first sample to its arrival, in
    /// milliseconds.
    latency: Option<(f64, f64)>,
}

fn print_line(what: &str, subscribers: usize, line: &Line) {
    let Cost { cpu_us_a_second, instructions_a_second, rss_kib } = line.cost;
    let instructions = instructions_a_second.map_or("-".into(), |count| format!("{:.2}", count / 1e6));
    let (p50, p99) =
        line.latency.map_or(("-".into(), "-".into()), |(p50, p99)| (format!("{p50:.1}"), format!("{p99:.1}")));
    println!(
        "| {what} | {subscribers} | {cpu_us_a_second:.0} | {:.3} % | {instructions} | {:.1} | {p50} | {p99} |",
        cpu_us_a_second / 1e4,
        rss_kib as f64 / 1024.0,
    );
}

async fn measure_node(source: &str, subscribers: usize, seconds: u64) -> Line {
    let node = Node::start(NodeOptions { source: source.into(), ..NodeOptions::new("http://127.0.0.1:1") }).await;
    until(SOON, "the node captures", || async {
        (node.describe().await.counters.unwrap().frames_captured > 0).then_some(())
    })
    .await;
    let listeners: Vec<_> = (0..subscribers)
        .map(|_| tokio::spawn(listen_for(node.client(), SETTLE + Duration::from_secs(seconds))))
        .collect();
    tokio::time::sleep(SETTLE).await;
    let cost = measure(node.daemon.pid(), seconds).await;
    let mut late_ms = Vec::new();
    for listener in listeners {
        late_ms.extend(within(SOON, "the subscriber ends", listener).await.unwrap());
    }
    late_ms.sort_by(f64::total_cmp);
    let latency = (!late_ms.is_empty()).then(|| (percentile(&late_ms, 0.5), percentile(&late_ms, 0.99)));
    Line { cost, latency }
}

async fn measure(pid: u32, seconds: u64) -> Cost {
    let before = Usage::of(pid);
    let counted = tokio::task::spawn_blocking(move || instructions_a_second(pid, seconds));
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = Usage::of(pid);
    Usage::between(&before, &after, counted.await.unwrap())
}

/// Instructions per second with one subscriber, counted by valgrind for processors that do not count them. It is the
/// difference between a long and a short run, so starting and stopping do not count. `None`: there is no valgrind.
async fn emulated_instructions_a_second(source: &str, seconds: u64) -> Option<f64> {
    Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().ok()?;
    let mut counts = Vec::new();
    for seconds in [SHORT_SECONDS, SHORT_SECONDS + seconds] {
        let listen_at = ports::free();
        let listen = listen_at.to_string();
        let node = binaries().cat_node.to_str().unwrap();
        let mut arguments = vec!["--tool=callgrind", "--callgrind-out-file=/dev/null", node, "serve"];
        arguments.extend(["--listen", &listen, "--owner", "http://127.0.0.1:1", "--source", source]);
        let mut daemon = Daemon::start("cat-node under valgrind", Path::new("valgrind"), &arguments);
        let client = CatClient::new(channel(&format!("http://{listen}")));
        until(EMULATED, "the node captures", || {
            let mut client = client.clone();
            async move {
                let counters = client.describe(DescribeRequest::default()).await.ok()?.into_inner().counters?;
                (counters.frames_captured > 0).then_some(())
            }
        })
        .await;
        listen_for(client, Duration::from_secs(seconds)).await;
        daemon.signal(Signal::TERM);
        daemon.exit(EMULATED).await;
        // "==PID== Collected : COUNT"
        let log = daemon.log();
        let count = log.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse::<f64>().ok());
        counts.push(count.unwrap_or_else(|| panic!("valgrind counted nothing:\n{log}")));
    }
    Some((counts[1] - counts[0]) / seconds as f64)
}

/// Length of the short run.
const SHORT_SECONDS: u64 = 5;

/// Deadline under valgrind, where milliseconds become seconds.
const EMULATED: Duration = Duration::from_secs(120);

/// Subscribes live for this time, and returns how late each frame was, in milliseconds.
async fn listen_for(mut client: CatClient<Channel>, time: Duration) -> Vec<f64> {
    let mut stream = client.listen(ListenRequest::default()).await.expect("the node accepts a subscriber").into_inner();
    let mut late_ms = Vec::new();
    let _ = tokio::time::timeout(time, async {
        while let Ok(Some(message)) = stream.message().await {
            let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64;
            if let Some(Event::Frame(frame)) = message.event
                && frame.captured_unix_ns != 0
            {
                late_ms.push((now_ns - frame.captured_unix_ns) as f64 / 1e6);
            }
        }
    })
    .await;
    late_ms
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

/// Measures a program that writes to a socket, whose other end is read here.
async fn measure_peer(program: &str, arguments: &[&str], seconds: u64) -> Cost {
    let address = ports::free();
    let listener = TcpListener::bind(address).unwrap();
    let sink = std::net::TcpStream::connect(address).unwrap();
    let (mut heard, _) = listener.accept().unwrap();
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::from(OwnedFd::from(sink)))
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut child = Killed(child);
    let read = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 65_536];
        let mut bytes = 0_u64;
        while let Ok(count @ 1..) = heard.read(&mut buffer) {
            bytes += count as u64;
        }
        bytes
    });
    tokio::time::sleep(SETTLE).await;
    let cost = measure(child.0.id(), seconds).await;
    child.end();
    let bytes = within(SOON, "the socket is closed", read).await.unwrap();
    let wanted = seconds * 32_000;
    assert!(bytes >= wanted, "{program} sent {bytes} bytes in {seconds} s, not {wanted}");
    cost
}

/// A child process that is killed when dropped.
struct Killed(Child);

impl Killed {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.end();
    }
}
