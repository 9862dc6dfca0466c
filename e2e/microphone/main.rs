//! The node with a real sound server. What is played is captured to the sample, and whatever happens to the server,
//! every lost frame is accounted for. Start it with `run` in this folder, which explains more.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests panic too, and print what they measured.

mod listener;
mod pulse;
mod wave;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::binaries::{binaries, workspace};
use e2e::daemon::{Finished, Signal, run};
use e2e::node::{Node, NodeOptions};
use e2e::wait::{SOON, until};
use listener::{Listener, Outage, outages};
use proto::{DescribeResponse, GapReason, SourceState};
use pulse::{Player, Pulse, pactl, plug_in, set_shared_memory};
use sound::framer::Framer;
use sound::measure::Meter;

/// The node reports that it has no audio within this time, and captures again within this time once the device is back.
/// The product promises both. Besides the length of the gap, they are the only limits on time in these tests.
const NOTICED: Duration = Duration::from_secs(2);
const HEALED: Duration = Duration::from_secs(5);

/// How long an outage lasts. The node tries several times in vain.
const OUTAGE: Duration = Duration::from_secs(4);

/// How far the length of a gap may be from the outage by the subscriber's clock. The sound server and the resampler
/// hold back more or less audio before and after it, and the machine may be busy.
const CLOCK_TOLERANCE_MS: i64 = 200;

/// Share of one core that the node may use during an outage. Errors without end would take all of it.
const OUTAGE_CPU_SHARE: f64 = 0.2;

/// How many lines the node may log in a test. Errors without end would log thousands per second.
const LOG_LINES: usize = 60;

/// Clock ticks per second in `/proc/PID/stat`, on every current Linux.
const TICKS_A_SECOND: f64 = 100.0;

fn path(name: &str) -> PathBuf {
    pulse::folder().join(name)
}

/// A minute of 440 Hz.
fn tone() -> PathBuf {
    let tone = path("tone.wav");
    if !tone.exists() {
        wave::write_sine(&tone, 440.0, 60);
    }
    tone
}

fn cat_node(arguments: &[&str]) -> Finished {
    run(&binaries().cat_node, arguments, &[])
}

async fn record(out: &Path, seconds: u32, source: &'static str) {
    let (out, seconds) = (out.to_str().unwrap().to_owned(), seconds.to_string());
    let recorded =
        tokio::task::spawn_blocking(move || cat_node(&["record", &out, "--seconds", &seconds, "--source", source]));
    let recorded = recorded.await.unwrap();
    assert_eq!(recorded.code, Some(0), "{}", recorded.stderr);
}

/// The sound server itself, and ALSA's default device, which is a client of it. The source is named, because a monitor
/// is never a microphone by default.
const SOUND_SERVER: &str = "microphone:pulse:room.monitor";
const ALSA: &str = "microphone:default";

/// A node with a microphone. Its owner does not exist, and is not called.
async fn node(source: &str) -> Node {
    let source = source.into();
    Node::start(NodeOptions { source, ..NodeOptions::new("http://127.0.0.1:1") }).await
}

fn state(description: &DescribeResponse) -> SourceState {
    description.source.as_ref().unwrap().state()
}

/// Waits until the source of the node is in this state, and returns the description of the node.
async fn reaches(node: &Node, wanted: SourceState) -> DescribeResponse {
    until(SOON, &format!("the source is {wanted:?}"), || async {
        let description = node.describe().await;
        (state(&description) == wanted).then_some(description)
    })
    .await
}

/// Processor time that a process has used, in seconds.
fn cpu_s(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name may contain spaces. After it come the state and the numbers: user and system time are fields 14 and 15.
    let numbers: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (numbers[11].parse::<f64>().unwrap() + numbers[12].parse::<f64>().unwrap()) / TICKS_A_SECOND
}

/// What happens to the sound server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It crashes, and another one is started.
    Killed,
    /// It hangs and continues later. Its clients get no error.
    Hangs,
}

/// Breaks the sound server while a subscriber listens, repairs it, and compares the gap with the clock.
async fn heals(source: &str, fault: Fault, shared_memory: bool) {
    set_shared_memory(shared_memory);
    let mut server = Some(Pulse::start().await);
    let _player = Player::play(&tone()).await;
    let node = node(source).await;
    let listener = Listener::start(&node).await;
    until(SOON, "two seconds of audio arrive", || async { (listener.frames() >= 100).then_some(()) }).await;

    let cpu_before_s = cpu_s(node.daemon.pid());
    let broken_at = Instant::now();
    match fault {
        Fault::Killed => server.take().unwrap().kill(),
        Fault::Hangs => server.as_ref().unwrap().signal(Signal::STOP),
    }
    let lost = reaches(&node, SourceState::NoDevice).await;
    let noticed = broken_at.elapsed();
    assert!(!lost.source.unwrap().detail.is_empty(), "the node gives no reason");
    // Lets the outage last.
    tokio::time::sleep_until((broken_at + OUTAGE).into()).await;
    let cpu_share = (cpu_s(node.daemon.pid()) - cpu_before_s) / broken_at.elapsed().as_secs_f64();
    let heard_before = listener.frames();

    let _next = match &server {
        None => Some((Pulse::start().await, Player::play(&tone()).await)),
        Some(server) => {
            server.signal(Signal::CONT);
            None
        }
    };
    let back_at = Instant::now();
    until(SOON, "two more seconds of audio arrive", || async {
        (listener.frames() >= heard_before + 100).then_some(())
    })
    .await;
    let description = reaches(&node, SourceState::Capturing).await;
    assert!(listener.is_listening(), "the subscriber was disconnected");

    let outages = outages(&listener.heard());
    let outage = &outages[0];
    let (before, last_at) = outage.before.clone().expect("audio came before the outage");
    let (after, first_at) = outage.after.clone();
    let healed = first_at.saturating_duration_since(back_at);
    let gap_ms = outage.frames as i64 * 20;
    let by_node_ms = (after.captured_monotonic_ns - before.captured_monotonic_ns) as i64 / 1_000_000 - 20;
    let by_subscriber_ms = (first_at - last_at).as_millis() as i64 - 20;
    let counters = description.counters.unwrap();
    let log_lines = node.daemon.log().lines().count();
    println!(
        "{source}, {fault:?}, shared memory {shared_memory}: noticed after {noticed:?}, audio {healed:?} after the return; gap \
         of {gap_ms} ms, by the node's clock {by_node_ms} ms, by the subscriber's {by_subscriber_ms} ms; {:.1} % of a \
         core; {} restarts; {log_lines} lines of log",
        100.0 * cpu_share,
        counters.source_restarts,
    );
    assert!(noticed <= NOTICED, "noticed after {noticed:?}");
    assert!(healed <= HEALED, "no audio until {healed:?} after the return");
    assert!((gap_ms - by_node_ms).abs() <= 20, "the gap differs from the node's clock");
    assert!((gap_ms - by_subscriber_ms).abs() <= CLOCK_TOLERANCE_MS, "the gap differs from the subscriber's clock");
    assert!(outage.gaps.iter().all(|gap| gap.reason() == GapReason::DeviceLost), "{:?}", outage.gaps);
    let missing: u64 = outages.iter().map(|outage| outage.frames).sum();
    assert_eq!(counters.frames_lost_device + counters.frames_lost_overrun, missing);
    assert!(counters.source_restarts >= 1);
    assert!(cpu_share <= OUTAGE_CPU_SHARE, "{cpu_share}");
    assert!(log_lines <= LOG_LINES, "{}", node.daemon.log());
}

#[tokio::test]
async fn killed_server_is_survived() {
    heals(SOUND_SERVER, Fault::Killed, true).await;
}

#[tokio::test]
async fn server_that_hangs_without_any_error_is_survived() {
    heals(SOUND_SERVER, Fault::Hangs, true).await;
}

#[tokio::test]
async fn killed_server_behind_alsa_without_shared_memory_is_survived() {
    heals(ALSA, Fault::Killed, false).await;
}

#[tokio::test]
async fn killed_server_behind_alsa_with_shared_memory_is_survived() {
    heals(ALSA, Fault::Killed, true).await;
}

#[tokio::test]
async fn server_behind_alsa_that_hangs_without_any_error_is_survived() {
    heals(ALSA, Fault::Hangs, true).await;
}

#[tokio::test]
async fn tone_is_recorded_without_a_break() {
    set_shared_memory(true);
    let _server = Pulse::start().await;
    let _player = Player::play(&tone()).await;
    for source in [SOUND_SERVER, ALSA] {
        tone_from(source).await;
    }
}

async fn tone_from(source: &'static str) {
    let out = path("recorded-tone.wav");
    record(&out, 5, source).await;
    let (samples, rate_hz) = wave::read(&out);
    assert_eq!((samples.len(), rate_hz), (5 * 16_000, 16_000));
    // The player may have started shortly after the recording.
    let sine = wave::fit_sine(&samples[16_000..]);
    println!(
        "tone from {source}: {:.4} Hz, amplitude {:.4}, {} breaks",
        sine.frequency_hz,
        sine.amplitude,
        sine.breaks.len()
    );
    assert!((sine.frequency_hz - 440.0).abs() < 0.01, "{} Hz", sine.frequency_hz);
    assert!((sine.amplitude - 0.5).abs() < 0.005, "amplitude {}", sine.amplitude);
    assert_eq!(sine.breaks, Vec::<usize>::new(), "samples were lost or repeated");
}

#[tokio::test]
async fn real_meow_is_recorded_as_it_was_played() {
    set_shared_memory(true);
    let _server = Pulse::start().await;
    let (meow, rate_hz) = wave::read(&a_meow());
    // The recording starts in the pause before the meow.
    let padded = path("padded.wav");
    let pause = vec![0; 2 * rate_hz as usize];
    wave::write(&padded, rate_hz, &[&pause[..], &meow, &pause].concat());
    let out = path("recorded-meow.wav");
    let (player, ()) = tokio::join!(Player::play(&padded), record(&out, 6, SOUND_SERVER));
    drop(player);
    let (heard, _) = wave::read(&out);

    let mut played = Vec::new();
    let pause_after = vec![0.0; rate_hz as usize / 10];
    let as_f32: Vec<f32> = meow.iter().map(|&sample| f32::from(sample) / 32_768.0).chain(pause_after).collect();
    Framer::new(rate_hz, 1).unwrap().push(&as_f32, |frame| played.extend_from_slice(frame));
    played.truncate(meow.len() * 16_000 / rate_hz as usize);
    let (at, likeness) = wave::find(&played, &heard);
    let end = at + played.len();
    let mut meter = Meter::default();
    let (was, is) = (meter.measure(&played, -120.0), meter.measure(&heard[at..end], -120.0));
    println!(
        "meow of {} ms: likeness {likeness:.5}, pitch {:.1} Hz played, {:.1} Hz recorded; level {:.2} and {:.2} dBFS",
        played.len() / 16,
        was.pitch_median_hz,
        is.pitch_median_hz,
        was.rms_dbfs,
        is.rms_dbfs,
    );
    assert!(likeness > 0.99, "likeness {likeness}");
    assert!((is.pitch_median_hz / was.pitch_median_hz - 1.0).abs() < 0.005);
    assert!((is.rms_dbfs - was.rms_dbfs).abs() < 0.2);
    // There is silence around it, so the length is right too. The sound server's filter rings for a few milliseconds.
    let ringing = 160;
    let outside = heard[..at - ringing].iter().chain(&heard[end + ringing..]);
    assert!(outside.clone().all(|sample| sample.abs() <= 8), "{:?}", outside.max());
}

#[tokio::test]
async fn node_that_starts_before_its_microphone_waits_for_it() {
    set_shared_memory(true);
    let node = node(SOUND_SERVER).await;
    let description = reaches(&node, SourceState::NoDevice).await;
    let detail = description.source.unwrap().detail;
    assert!(detail.contains("arecord -l") && detail.contains("group audio"), "{detail}");
    let listener = Listener::start(&node).await;
    let _server = Pulse::start().await;
    let back_at = Instant::now();
    let _player = Player::play(&tone()).await;
    reaches(&node, SourceState::Capturing).await;
    until(SOON, "audio arrives", || async { (listener.frames() >= 10).then_some(()) }).await;
    let outages = outages(&listener.heard());
    let Outage { before, frames, after: (first, first_at), .. } = &outages[0];
    assert!(before.is_none(), "the stream does not begin with the gap");
    let late_ms = first.captured_monotonic_ns as i64 / 1_000_000 - *frames as i64 * 20;
    println!("gap of {frames} frames, first frame at {} ms", first.captured_monotonic_ns / 1_000_000);
    assert!((0..=20).contains(&late_ms), "the gap is wrong by {late_ms} ms");
    assert!(first_at.saturating_duration_since(back_at) <= HEALED);
}

#[tokio::test]
async fn recording_without_a_microphone_fails_and_says_why() {
    let out = path("nothing.wav");
    let arguments =
        ["record", out.to_str().unwrap(), "--seconds", "1", "--source", "microphone:NoSuchCard"].map(String::from);
    let recorded =
        tokio::task::spawn_blocking(move || cat_node(&arguments.each_ref().map(String::as_str))).await.unwrap();
    assert_eq!(recorded.code, Some(1), "{}", recorded.stderr);
    assert!(recorded.stderr.contains("NoSuchCard") && recorded.stderr.contains("arecord -l"), "{}", recorded.stderr);
}

#[tokio::test]
async fn sound_server_is_the_default_and_its_sources_have_names() {
    set_shared_memory(true);
    let _server = Pulse::start().await;
    let _player = Player::play(&tone()).await;
    // What the machine plays is no microphone.
    let without = node("microphone:pulse").await;
    let detail = reaches(&without, SourceState::NoDevice).await.source.unwrap().detail;
    assert!(detail.contains("no microphone"), "{detail}");
    plug_in("mic");
    pactl(&["set-default-source", "mic"]);
    for (source, device) in [
        ("microphone", "pulse:mic"),
        ("microphone:pulse", "pulse:mic"),
        ("microphone:pulse:room.monitor", "pulse:room.monitor"),
    ] {
        let node = node(source).await;
        let description = reaches(&node, SourceState::Capturing).await;
        assert_eq!(description.source.unwrap().device, device, "{source}");
    }
    let unknown = node("microphone:pulse:NoSuchSource").await;
    let detail = reaches(&unknown, SourceState::NoDevice).await.source.unwrap().detail;
    assert!(detail.contains("NoSuchSource") && detail.contains("it has: pulse:room.monitor"), "{detail}");
}

#[tokio::test]
async fn unplugged_microphone_is_not_replaced_by_another_one_unless_it_was_the_default() {
    set_shared_memory(true);
    let _server = Pulse::start().await;
    let _player = Player::play(&tone()).await;
    let unplug = plug_in("mic");
    plug_in("other");
    pactl(&["set-default-source", "mic"]);
    let (named, default) = (node("microphone:pulse:mic").await, node("microphone").await);
    for node in [&named, &default] {
        let description = reaches(node, SourceState::Capturing).await;
        assert_eq!(description.source.unwrap().device, "pulse:mic");
    }
    pactl(&["unload-module", &unplug]);
    reaches(&named, SourceState::NoDevice).await;
    until(SOON, "the default is another microphone", || async {
        let source = default.describe().await.source.unwrap();
        (source.device == "pulse:other" && source.state() == SourceState::Capturing).then_some(())
    })
    .await;
    plug_in("mic");
    let source = reaches(&named, SourceState::Capturing).await.source.unwrap();
    assert_eq!(source.device, "pulse:mic");
}

#[tokio::test]
async fn node_leaves_nothing_behind_at_a_server_that_hangs() {
    set_shared_memory(true);
    let server = Pulse::start().await;
    let node = node(SOUND_SERVER).await;
    until(SOON, "audio arrives", || async { (node.describe().await.counters?.frames_captured > 50).then_some(()) })
        .await;
    let count = || {
        let process = format!("/proc/{}", node.daemon.pid());
        ["task", "fd"].map(|folder| fs::read_dir(format!("{process}/{folder}")).unwrap().count())
    };
    let before = count();
    server.signal(Signal::STOP);
    reaches(&node, SourceState::NoDevice).await;
    // The node tries about ten times.
    tokio::time::sleep(Duration::from_secs(15)).await;
    let during = count();
    server.signal(Signal::CONT);
    reaches(&node, SourceState::Silent).await;
    println!("threads and files before {before:?}, after 15 s without an answer {during:?}");
    // One attempt may be under way.
    assert!(during[0] <= before[0] + 1 && during[1] <= before[1] + 1, "{during:?} instead of {before:?}");
}

#[tokio::test]
async fn muted_microphone_is_said_to_be_silent() {
    set_shared_memory(true);
    let _server = Pulse::start().await;
    let node = node(SOUND_SERVER).await;
    let description = reaches(&node, SourceState::Silent).await;
    assert!(description.source.unwrap().detail.contains("muted"));
    assert_eq!(description.level.unwrap().peak_dbfs, -120.0);
    let _player = Player::play(&tone()).await;
    reaches(&node, SourceState::Capturing).await;
}

#[tokio::test]
async fn devices_lists_what_can_be_opened() {
    set_shared_memory(true);
    {
        let _server = Pulse::start().await;
        plug_in("mic");
        pactl(&["set-default-source", "mic"]);
        let listed = tokio::task::spawn_blocking(|| cat_node(&["devices"])).await.unwrap();
        assert_eq!(listed.code, Some(0), "{}", listed.stderr);
        let says = |text: &str| assert!(listed.stdout.contains(text), "no {text} in {}", listed.stdout);
        says("microphone:default\n");
        says("microphone:pulse\n    the default of the sound server: ");
        says("microphone:pulse:room.monitor\n    Monitor of ");
        says("    48000 Hz; 1 channel\n");
        assert_eq!(listed.stdout.matches("microphone:pulse\n").count(), 1, "{}", listed.stdout);
        assert!(!listed.stdout.contains("microphone:null"), "{}", listed.stdout);
    }
    let listed = tokio::task::spawn_blocking(|| cat_node(&["devices"])).await.unwrap();
    let said = listed.stdout + &listed.stderr;
    if cards() == 0 {
        assert_ne!(listed.code, Some(0), "{said}");
        assert!(said.contains("plug in a microphone") && said.contains("group audio"), "{said}");
    }
}

/// Number of sound cards of this machine.
fn cards() -> usize {
    fs::read_dir("/proc/asound").map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("card")).count()
    })
}

/// One of the meows of the demo. Always the same one.
fn a_meow() -> PathBuf {
    let folder = workspace().join("demo/meows");
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let wavs =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "wav"));
    wavs.min().expect("the demo has meows")
}
