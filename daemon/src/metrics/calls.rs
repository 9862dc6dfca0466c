//! Calls that a daemon serves or makes: how many ended how, how long they took, how many are under way.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::{Histogram, Labels, Page};

/// What a call counts as whose name is not a known one: callers choose names, and each would be a series of its own.
const OTHER: &str = "other";

/// Calls by name. The names are fixed from the start.
#[derive(Debug)]
pub struct Calls {
    rows: HashMap<String, Arc<Row>>,
    other: Arc<Row>,
}

#[derive(Debug, Default)]
struct Row {
    /// Until the answer begins.
    latency: Histogram,
    under_way: AtomicU64,
    /// By the word for how they ended; the words are the program's own, so they are few.
    ended: Mutex<BTreeMap<&'static str, u64>>,
}

/// The families of [`Calls`], each a name with what is said of it.
#[derive(Debug, Clone, Copy)]
pub struct CallFamilies {
    /// A counter of those that ended, with the label `code`.
    pub ended: (&'static str, &'static str),
    /// A histogram of the time until the answer began.
    pub latency: (&'static str, &'static str),
    /// A gauge of those under way.
    pub under_way: (&'static str, &'static str),
}

impl Calls {
    /// No calls yet. Those whose name is not among `names` count as "other".
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let rows = names.into_iter().map(|name| (name.into(), Arc::default())).collect();
        Self { rows, other: Arc::default() }
    }

    /// A call begins. Dropped before it ended, it ends as `given_up`.
    pub fn begin(&self, name: &str, given_up: &'static str) -> Call {
        let row = Arc::clone(self.rows.get(name).unwrap_or(&self.other));
        row.under_way.fetch_add(1, Ordering::Relaxed);
        Call { row, began: Instant::now(), given_up, ended: false }
    }

    /// Writes the calls of several, each with labels of its own, and `label` for their names. A name that was never called
    /// has no sample.
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

    /// In the order of their names.
    fn rows(&self) -> BTreeMap<&str, &Row> {
        self.rows.iter().map(|(name, row)| (name.as_str(), &**row)).chain([(OTHER, &*self.other)]).collect()
    }
}

/// A call under way.
#[derive(Debug)]
pub struct Call {
    row: Arc<Row>,
    began: Instant,
    given_up: &'static str,
    ended: bool,
}

impl Call {
    /// The answer begins.
    pub fn answered(&self) {
        self.row.latency.observe(self.began.elapsed());
    }

    /// It ended so. Only the first end counts.
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
    fn names_that_callers_make_up_are_one_series() {
        let calls = Calls::new(["sit"]);
        for number in 0..1000 {
            drop(calls.begin(&format!("trick-{number}"), "gone"));
        }
        let text = page(&calls);
        assert!(text.contains("calls_total{peer=\"a\",method=\"other\",code=\"gone\"} 1000"), "{text}");
        assert!(!text.contains("trick"), "{text}");
    }
}
