//! Measures what listening costs: many streams on one core, and a day of one stream.
//!
//! ```text
//! cargo run --release -p hub --example listening -- streams [streams] [seconds of each]
//! cargo run --release -p hub --example listening -- soak [hours]
//! ```
//!
//! Both do what the hub's analysis threads do, as fast as possible: they pass messages of 100 ms to one ear per stream,
//! which finds the events, judges them and cuts their clips. `soak` fails if memory grows after the first tenth.

// It prints its results.
#![allow(clippy::print_stdout)]

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use hub_listen::ear::{Ear, Finding};
use hub_listen::sequencer::{Frames, Piece};
use hub_store::clips::ClipsConfig;
use sound::SAMPLE_RATE_HZ;
use sound::detector::DetectorConfig;
use sound::synth::{Synth, SynthConfig};

/// Samples in a message: 100 ms.
const MESSAGE_SAMPLES: usize = 1_600;

/// Length of the audio of a room with cats, which repeats: 10 min, whole messages.
const LOOP_SAMPLES: usize = 600 * SAMPLE_RATE_HZ as usize;

/// How much memory may grow after the first tenth of the soak, in bytes. The allocator's own fluctuation is smaller.
const SLACK_BYTES: u64 = 1 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |place: usize, default: u64| arguments.get(place).and_then(|text| text.parse().ok()).unwrap_or(default);
    match arguments.first().map(String::as_str) {
        Some("streams") => streams(number(1, 500), number(2, 30)),
        Some("soak") => soak(number(1, 24)),
        _ => {
            println!("usage: listening streams [STREAMS] [SECONDS] | listening soak [HOURS]");
            ExitCode::from(64)
        }
    }
}

/// Many streams on this thread, one message of each in turn, as in a hub with that many nodes.
fn streams(count: u64, seconds: u64) -> ExitCode {
    let room = room();
    let before = memory_bytes();
    let mut streams: Vec<Stream> = (0..count).map(|n| Stream::new(n, &room)).collect();
    let began = cpu();
    for _ in 0..seconds * 10 {
        for stream in &mut streams {
            stream.hear(&room);
        }
    }
    let spent = cpu().saturating_sub(began).as_secs_f64();
    let events: u64 = streams.iter().map(|stream| stream.events).sum();
    let factor = (count * seconds) as f64 / spent;
    let kb = memory_bytes().saturating_sub(before) / 1_000 / count.max(1);
    println!(
        "live path: {count} streams of {seconds} s, {events} events: {factor:.0} times real time on one core, so as many streams a core"
    );
    println!("live path: {kb} kB a stream, with the audio that its clips are cut from");
    ExitCode::SUCCESS
}

/// One stream for a day.
fn soak(hours: u64) -> ExitCode {
    let room = room();
    let mut stream = Stream::new(0, &room);
    let messages = hours * 3_600 * 10;
    let (began, mut settled, mut highest) = (Instant::now(), 0, 0);
    for tenth in 1..=10 {
        for _ in 0..messages / 10 {
            stream.hear(&room);
        }
        let now = memory_bytes();
        if tenth == 1 {
            settled = now;
        }
        highest = highest.max(now);
        let heard_h = (hours * tenth) as f64 / 10.0;
        println!("{heard_h:5.1} h heard: {:.2} MB of memory, {} events", now as f64 / 1e6, stream.events);
    }
    let factor = (hours * 3_600) as f64 / began.elapsed().as_secs_f64();
    println!("soak: {hours} h at {factor:.0} times real time (wall clock)");
    if highest > settled + SLACK_BYTES {
        println!("soak: memory grew by {} kB after the first tenth", (highest - settled) / 1_000);
        return ExitCode::FAILURE;
    }
    println!("soak: memory stays within {} kB of the first tenth's", SLACK_BYTES / 1_000);
    ExitCode::SUCCESS
}

/// One node's audio and its ear.
struct Stream {
    ear: Ear,
    /// Messages heard.
    messages: u64,
    /// Where in the room's audio it is.
    place: usize,
    events: u64,
}

impl Stream {
    /// Each stream begins at another place in the audio, so that they do not all meow at once.
    fn new(number: u64, room: &[i16]) -> Self {
        let ear = Ear::new(format!("node-{number}"), ClipsConfig::default(), DetectorConfig::default(), None);
        let place = (number as usize * 7 * MESSAGE_SAMPLES) % room.len();
        Self { ear, messages: 0, place, events: 0 }
    }

    fn hear(&mut self, room: &[i16]) {
        let sequence = self.messages * 5;
        let frames = Frames {
            boot_id: 1,
            sequence,
            samples: room[self.place..self.place + MESSAGE_SAMPLES].to_vec(),
            captured_monotonic_ns: sequence * 20_000_000,
            captured_unix_ns: Some(1_700_000_000_000_000_000 + sequence.cast_signed() * 20_000_000),
        };
        let events = &mut self.events;
        self.ear.hear(Piece::Frames(frames), hub_listen::clock::NodeStart::default(), |finding| {
            *events += u64::from(matches!(finding, Finding::Event { .. }));
        });
        self.messages += 1;
        self.place = (self.place + MESSAGE_SAMPLES) % room.len();
    }
}

fn room() -> Vec<i16> {
    let mut audio = vec![0; LOOP_SAMPLES];
    Synth::new(SynthConfig { seed: 42, vocalisations: true }).read(&mut audio);
    audio
}

/// CPU time of this thread on Linux; elsewhere the time since the first call.
fn cpu() -> Duration {
    static BEGAN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let began = BEGAN.get_or_init(Instant::now);
    let read = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let read = read.and_then(|text| text.split_whitespace().next()?.parse().ok());
    read.map_or_else(|| began.elapsed(), Duration::from_nanos)
}

/// Resident memory of this process (Linux; else 0).
fn memory_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1_024
}
