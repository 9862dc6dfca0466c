//! Measures how fast one core analyses audio: CPU time of the front end, of the network, of both, of the whole
//! analysis, and of the framer at the usual rates.
//!
//! `cargo run --release -p sound --example speed [seconds of audio]`

// The program prints its result.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use sound::SAMPLE_RATE_HZ;
use sound::analysis::Analyzer;
use sound::detector::DetectorConfig;
use sound::framer::Framer;
use sound::logmel::LogMel;
use sound::model::{Hearing, Model};

/// Rounds of each measurement, of which the median is printed.
const ROUNDS: usize = 5;

fn main() {
    let seconds = std::env::args().nth(1).and_then(|argument| argument.parse().ok()).unwrap_or(300_usize);
    let samples = noise(seconds * SAMPLE_RATE_HZ as usize);
    let model = Model::shipped();

    let mut frames = Vec::new();
    LogMel::new().push(&samples, |frame| frames.push(*frame));
    report("front end", seconds, || {
        let mut heard = 0.0;
        LogMel::new().push(&samples, |frame| heard += frame[0]);
        heard
    });
    report("network", seconds, || {
        let mut heard = 0.0;
        let mut hearing = Hearing::new(model);
        for frame in &frames {
            hearing.push(model, frame, &mut |answer| heard += answer.cat_logit);
        }
        heard
    });
    report("front end and network", seconds, || {
        let mut heard = 0.0;
        let (mut front, mut hearing) = (LogMel::new(), Hearing::new(model));
        for chunk in samples.chunks(320) {
            front.push(chunk, |frame| hearing.push(model, frame, &mut |answer| heard += answer.cat_logit));
        }
        heard
    });
    report("whole analysis", seconds, || {
        let mut analyzer = Analyzer::new(DetectorConfig::default());
        samples.chunks(320).for_each(|chunk| analyzer.push(chunk));
        analyzer.finish().cat_score
    });
    for rate_hz in [8_000, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000] {
        let second: Vec<f32> = noise(rate_hz as usize).iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
        report(&format!("framer at {rate_hz} Hz"), seconds, || {
            let mut framer = Framer::new(rate_hz, 1).expect("the rate is supported");
            let mut heard = 0.0;
            for _ in 0..seconds {
                framer.push(&second, |frame| heard += f32::from(frame[0]));
            }
            heard
        });
    }
}

/// Runs and prints one measurement.
fn report(what: &str, seconds: usize, mut run: impl FnMut() -> f32) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = CpuClock::start();
            std::hint::black_box(run());
            began.elapsed()
        })
        .collect();
    times.sort();
    let median = times[ROUNDS / 2].as_secs_f64();
    println!(
        "{what}: {:.0} times real time, {:.3} ms a second of audio",
        seconds as f64 / median,
        median * 1e3 / seconds as f64
    );
}

/// Measures the CPU time of this thread where the system reports it (Linux), otherwise wall time.
struct CpuClock(Option<u64>, Instant);

impl CpuClock {
    fn start() -> Self {
        Self(cpu_ns(), Instant::now())
    }

    fn elapsed(&self) -> Duration {
        match (self.0, cpu_ns()) {
            (Some(before), Some(now)) => Duration::from_nanos(now - before),
            _ => self.1.elapsed(),
        }
    }
}

fn cpu_ns() -> Option<u64> {
    std::fs::read_to_string("/proc/thread-self/schedstat").ok()?.split_whitespace().next()?.parse().ok()
}

/// White noise 30 dB below full scale.
fn noise(count: usize) -> Vec<i16> {
    let mut state = 1_u32;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 16) as i16) / 32
        })
        .collect()
}
