//! Measures where the time goes when a recording is analysed: CPU time of the decoder, of the framer behind it, and of
//! the analysis behind both.
//!
//! `cargo run --release -p recordings --features files --example speed -- FILE...`

// The program prints its result.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;

use recordings::Recording;
use sound::analysis::Analyzer;
use sound::detector::DetectorConfig;
use sound::framer::Framer;

/// Rounds of each measurement, of which the shortest is printed.
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    println!("times real time: decoder alone | with the framer | with the analysis");
    for path in std::env::args().skip(1) {
        let path = Path::new(&path);
        let decoder = times_real_time(path, false, false)?;
        let framer = times_real_time(path, true, false)?;
        let analysis = times_real_time(path, true, true)?;
        println!("{}: {decoder:.0} | {framer:.0} | {analysis:.0}", path.display());
    }
    Ok(())
}

/// How many seconds of a recording are read in a second of CPU time.
fn times_real_time(path: &Path, frames: bool, analyses: bool) -> Result<f64, Box<dyn Error>> {
    let mut best = 0.0_f64;
    for _ in 0..ROUNDS {
        let before = cpu_s()?;
        let mut recording = Recording::open(path)?;
        let format = recording.format();
        let mut framer = Framer::new(format.sample_rate_hz, format.channels)?;
        let mut analyzer = Analyzer::of_recording(DetectorConfig::default());
        let (mut samples, mut count, mut sum) = (Vec::new(), 0, 0_i64);
        while recording.read(&mut samples)? > 0 {
            count += samples.len();
            if frames {
                framer.push(&samples, |frame| {
                    sum += i64::from(frame[0]);
                    if analyses {
                        analyzer.push(frame);
                    }
                });
            }
            samples.clear();
        }
        std::hint::black_box((sum, analyzer.finish()));
        let seconds = count as f64 / f64::from(format.channels) / f64::from(format.sample_rate_hz);
        best = best.max(seconds / (cpu_s()? - before));
    }
    Ok(best)
}

/// CPU time of this thread, in seconds.
fn cpu_s() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns: f64 = text.split_whitespace().next().ok_or("schedstat is empty")?.parse()?;
    Ok(ns / 1e9)
}
