//! Counts the calls that a daemon serves or makes (gRPC, HTTP, database): results, latency, and how many are in flight.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::{Histogram, Labels, Page};

/// Calls with an unknown name are counted under this one. Clients choose the names of their calls, and each new name
/// would add a time series.
const OTHER: &str = "other";

/// Counters of calls, by the name of the call. The set of names is fixed.
#[derive(Debug)]
pub struct Calls {
    rows: HashMap<String, Arc<Row>>,
    other: Arc<Row>,
}

#[derive(Debug, Default)]
struct Row {
    /// Time from the start of a call to the start of its answer.
    latency: Histogram,
    under_way: AtomicU64,
    /// Number of calls that ended, by result. The results are words of this program, so there are few.
    ended: Mutex<BTreeMap<&'static str, u64>>,
}

/// Name and help text of each metric family that [`Calls`] writes.
#[derive(Debug, Clone, Copy)]
pub struct CallFamilies {
    /// Counter of the calls that ended. Its label `code` is the result.
    pub ended: (&'static str, &'static str),
    /// Histogram of the time until the answer began.
    pub latency: (&'static str, &'static str),
    /// Gauge of the calls in flight.
    pub under_way: (&'static str, &'static str),
}

impl Calls {
    /// Counters for these names. Calls with other names are counted as "other".
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let rows = names.into_iter().map(|name| (name.into(), Arc::default())).collect();
        Self { rows, other: Arc::default() }
    }

    /// Begins a call. If the [`Call`] is dropped before its end, its result is `given_up`.
    pub fn begin(&self, name: &str, given_up: &'static str) -> Call {
        let row = Arc::clone(self.rows.get(name).unwrap_or(&self.other));
        row.under_way.fetch_add(1, Ordering::Relaxed);
        Call { row, began: Instant::now(), given_up, ended: false }
    }

    /// Writes the counters in `all`, each with labels of its own; the label `label` holds the name of the call. Names
    /// that were never called are left out.
    pub fn write(page: &mut Page, families: &CallFamilies, label: &str, all: &[(Labels<'_>, &Self)]) {
        let mut rows = Vec::new();
        for (labels, calls) in all {
            for (name, row) in calls.rows() {
                let ended = row.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let under_way = row.under_way.load(Ordering::Relaxed);
                if under_way > 0 || !ended.is_empty() {
                    let mut labels = labels.to_vec();
                    labels.push((label, name));
                    rows.push((labels, row, ended, under_way));
                }
            }
        }
        let mut family = page.counter(families.ended.0, families.ended.1);
        for (labels, _, ended, _) in &mut rows {
            for (code, count) in ended {
                labels.push(("code", code));
                family.with(labels, *count as f64);
                labels.pop();
            }
        }
        let mut family = page.histogram(families.latency.0, families.latency.1);
        for (labels, row, ..) in &rows {
            family.durations(labels, &row.latency);
        }
        let mut family = page.gauge(families.under_way.0, families.under_way.1);
        for (labels, _, _, under_way) in &rows {
            family.with(labels, *under_way as f64);
        }
    }

    /// All rows, sorted by name.
    fn rows(&self) -> BTreeMap<&str, &Row> {
        self.rows.iter().map(|(name, row)| (name.as_str(), &**row)).chain([(OTHER, &*self.other)]).collect()
    }
}

/// A call in flight.
#[derive(Debug)]
pub struct Call {
    row: Arc<Row>,
    began: Instant,
    given_up: &'static str,
    ended: bool,
}

impl Call {
    /// Notes that the answer begins.
    pub fn answered(&self) {
        self.row.latency.observe(self.began.elapsed());
    }

    /// Ends the call with a result. Later results are ignored.
    pub fn end(&mut self, word: &'static str) {
        if !std::mem::replace(&mut self.ended, true) {
            self.row.under_way.fetch_sub(1, Ordering::Relaxed);
            *self.row.ended.lock().unwrap_or_else(PoisonError::into_inner).entry(word).or_default() += 1;
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(self.given_up);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAMILIES: CallFamilies = CallFamilies {
        ended: ("calls_total", "Calls."),
        latency: ("call_seconds", "Time."),
        under_way: ("calls_in_flight", "Now."),
    };

    fn page(calls: &Calls) -> String {
        let mut page = Page::default();
        Calls::write(&mut page, &FAMILIES, "method", &[(&[("peer", "a")], calls)]);
        page.into_text()
    }

    #[test]
    fn calls_are_counted_by_name_and_end() {
        let calls = Calls::new(["sit", "come"]);
        let mut good = calls.begin("sit", "gone");
        good.answered();
        good.end("ok");
        drop(good);
        drop(calls.begin("sit", "gone"));
        let _under_way = calls.begin("sit", "gone");
        let text = page(&calls);
        for line in [
            "calls_total{peer=\"a\",method=\"sit\",code=\"gone\"} 1",
            "calls_total{peer=\"a\",method=\"sit\",code=\"ok\"} 1",
            "call_seconds_count{peer=\"a\",method=\"sit\"} 1",
            "calls_in_flight{peer=\"a\",method=\"sit\"} 1",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("come"), "{text}");
    }

    #[test]
    fn unknown_names_share_one_series() {
        let calls = Calls::new(["sit"]);
        for number in 0..1000 {
            drop(calls.begin(&format!("trick-{number}"), "gone"));
        }
        let text = page(&calls);
        assert!(text.contains("calls_total{peer=\"a\",method=\"other\",code=\"gone\"} 1000"), "{text}");
        assert!(!text.contains("trick"), "{text}");
    }
}
