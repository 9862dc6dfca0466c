//! Metrics of this process, from `/proc`, under the names that all Prometheus clients use.

use std::fs;

use super::Page;

/// Unit of CPU time and start times in `/proc`: a hundredth of a second (`USER_HZ`), whatever the kernel's own clock.
const TICKS_A_SECOND: f64 = 100.0;

/// Writes CPU time, memory, threads, file descriptors and start time. What the system does not report is left out.
pub fn process(page: &mut Page) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the name of the program in parentheses, which may contain spaces and parentheses.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
    // The numbers are those of proc(5), where the first field after the name is number 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        let help = "CPU time of the process, user and system.";
        page.counter("process_cpu_seconds_total", help).value((user + system) / TICKS_A_SECOND);
    }
    if let (Some(started), Some(booted)) = (field(22), boot_time_s()) {
        let help = "Start time of the process, in seconds since 1970 UTC.";
        page.gauge("process_start_time_seconds", help).value(booted + started / TICKS_A_SECOND);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // From `status`: emulators leave threads and memory out of `stat`.
    if let Some(threads) = value_after(&status, "Threads:") {
        page.gauge("process_threads", "Number of threads.").value(threads);
    }
    if let Some(kilobytes) = value_after(&status, "VmRSS:") {
        page.gauge("process_resident_memory_bytes", "Resident memory.").value(kilobytes * 1024.0);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // Without the descriptor that reads this directory.
        let count = open.count().saturating_sub(1);
        page.gauge("process_open_fds", "Number of open file descriptors.").value(count as f64);
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(most) = value_after(&limits, "Max open files") {
        page.gauge("process_max_fds", "Maximum number of open file descriptors.").value(most);
    }
}

/// When the system started, in seconds since 1970 UTC.
fn boot_time_s() -> Option<f64> {
    value_after(&fs::read_to_string("/proc/stat").ok()?, "btime")
}

/// The number that follows `word` at the beginning of a line.
fn value_after(text: &str, word: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(word))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described() {
        let mut page = Page::default();
        process(&mut page);
        let text = page.into_text();
        let value = |name: &str| value_after(&text, &format!("{name} ")).unwrap_or_else(|| panic!("{name}: {text}"));
        assert!(value("process_threads") >= 1.0);
        assert!(value("process_resident_memory_bytes") > 1e6, "{text}");
        assert!(value("process_max_fds") > value("process_open_fds"), "{text}");
        let now_s = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let age_s = now_s - value("process_start_time_seconds");
        assert!((-2.0..3600.0).contains(&age_s), "{age_s} {text}");
        assert!(value("process_cpu_seconds_total") >= 0.0, "{text}");
    }
}
