//! What a process costs, according to the kernel.

use std::fs;
use std::process::Command;
use std::time::Instant;

/// What a process has used so far.
#[derive(Debug)]
pub(crate) struct Usage {
    at: Instant,
    cpu_ns: u64,
    rss_kib: u64,
}

/// What a process costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// Processor time per second, in microseconds.
    pub(crate) cpu_us_a_second: f64,
    /// Instructions per second in user mode. `None`: this machine does not count them.
    pub(crate) instructions_a_second: Option<f64>,
    /// Resident memory at the end, in KiB.
    pub(crate) rss_kib: u64,
}

impl Usage {
    /// The usage of all threads that the process has now.
    pub(crate) fn of(pid: u32) -> Self {
        // The scheduler counts nanoseconds, `stat` only hundredths of a second.
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
        let cpu_ns = tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
            .sum();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss_kib =
            rss.and_then(|text| text.split_whitespace().next()?.parse().ok()).expect("every process has memory");
        Self { at: Instant::now(), cpu_ns, rss_kib }
    }

    /// The cost between two times.
    pub(crate) fn between(before: &Self, after: &Self, instructions_a_second: Option<f64>) -> Cost {
        let seconds = (after.at - before.at).as_secs_f64();
        let cpu_us_a_second = after.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e3 / seconds;
        Cost { cpu_us_a_second, instructions_a_second, rss_kib: after.rss_kib }
    }
}

/// Counts the instructions of a process for this time, by the processor. Virtual machines often cannot.
pub(crate) fn instructions_a_second(pid: u32, seconds: u64) -> Option<f64> {
    let output = Command::new("perf")
        .args(["stat", "-x", ",", "-e", "instructions:u", "-p", &pid.to_string(), "sleep", &seconds.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let count: f64 = text.lines().find(|line| line.contains("instructions"))?.split(',').next()?.parse().ok()?;
    Some(count / seconds as f64)
}
