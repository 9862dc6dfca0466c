//! Writes the metrics of a daemon in the text format of Prometheus.
//!
//! A figure lives where it is counted, as a plain atomic; for each scrape the daemon reads its figures and writes them
//! with [`Page`]. A metrics library would store each figure a second time, and the format is simple enough to do
//! without one.

mod calls;
mod histogram;
mod process;
mod rpc;

use std::fmt::Write;

pub use calls::{Call, CallFamilies, Calls};
pub use histogram::Histogram;
pub use process::process;
pub use rpc::{Counted, Meter, Render};
pub(crate) use rpc::{PATH, needs_token};

/// Content type of the text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The labels of a sample, each a name and a value. They distinguish the samples of a family.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// A page of metrics. Names follow the conventions of Prometheus: a prefix for the program, base units, `_total` for
/// counters.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// Begins a counter: it only grows, and starts at 0 when the process starts.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family("counter", name, help)
    }

    /// Begins a gauge: it goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family("gauge", name, help)
    }

    /// Begins a histogram of durations in seconds.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family("histogram", name, help)
    }

    fn family(&mut self, kind: &str, name: &'static str, help: &str) -> Family<'_> {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        Family { page: self, name }
    }

    /// The text of the page.
    pub fn into_text(self) -> String {
        self.text
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

/// A metric family: all samples with the same name.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Family<'_> {
    /// Writes the only sample of the family, without labels.
    pub fn value(&mut self, value: f64) {
        self.with(&[], value);
    }

    /// Writes a sample with labels.
    pub fn with(&mut self, labels: Labels<'_>, value: f64) -> &mut Self {
        self.sample("", labels, None, value);
        self
    }

    /// Writes a sample for each of `states`: 1 for the state `holds`, 0 for the others. The label `state` follows
    /// `labels`.
    pub fn states(&mut self, labels: Labels<'_>, states: &[&str], holds: &str) -> &mut Self {
        for state in states {
            let mut all = labels.to_vec();
            all.push(("state", state));
            self.with(&all, f64::from(u8::from(*state == holds)));
        }
        self
    }

    /// Writes buckets, sum and count of a histogram.
    pub fn durations(&mut self, labels: Labels<'_>, histogram: &Histogram) -> &mut Self {
        let mut count = 0;
        for (bound, within) in histogram.buckets() {
            count += within;
            self.sample("_bucket", labels, Some(bound), count as f64);
        }
        self.sample("_sum", labels, None, histogram.sum().as_secs_f64());
        self.sample("_count", labels, None, count as f64);
        self
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: f64) {
        let mut set = String::new();
        for (key, value) in labels.iter().copied().chain(bound.map(|bound| ("le", bound))) {
            let comma = if set.is_empty() { "" } else { "," };
            let _ = write!(set, "{comma}{key}=\"{}\"", Escaped(value));
        }
        let name = self.name;
        if set.is_empty() {
            self.page.line(format_args!("{name}{suffix} {value}"));
        } else {
            self.page.line(format_args!("{name}{suffix}{{{set}}} {value}"));
        }
    }
}

/// The value of a label, escaped for its place between quotes.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for character in self.0.chars() {
            match character {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// Writes a gauge whose labels describe the running program. `name` must end in `_build_info`.
pub fn build_info(page: &mut Page, name: &'static str, version: &str) {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    let labels = [("version", version), ("profile", profile), ("arch", std::env::consts::ARCH)];
    page.gauge(name, "Always 1. The labels describe the running program.").with(&labels, 1.0);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn page_is_in_the_text_format() {
        let mut page = Page::default();
        page.counter("cats_total", "Cats.").value(3.0);
        page.gauge("weight_kilograms", "How heavy.").with(&[("cat", "Tom")], 4.5).with(&[("cat", "Ada")], 3.0);
        assert_eq!(
            page.into_text(),
            "# HELP cats_total Cats.\n# TYPE cats_total counter\ncats_total 3\n\
             # HELP weight_kilograms How heavy.\n# TYPE weight_kilograms gauge\n\
             weight_kilograms{cat=\"Tom\"} 4.5\nweight_kilograms{cat=\"Ada\"} 3\n"
        );
    }

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::default();
        page.gauge("cat", "A cat.").with(&[("name", "\"} 1\nx{a=\"\\")], 1.0);
        let text = page.into_text();
        assert_eq!(text.lines().last(), Some(r#"cat{name="\"} 1\nx{a=\"\\"} 1"#));
    }

    #[test]
    fn the_state_that_holds_is_1() {
        let mut page = Page::default();
        page.gauge("door", "The door.").states(&[("room", "hall")], &["open", "closed"], "closed");
        let text = page.into_text();
        assert!(
            text.ends_with("door{room=\"hall\",state=\"open\"} 0\ndoor{room=\"hall\",state=\"closed\"} 1\n"),
            "{text}"
        );
    }

    #[test]
    fn buckets_of_a_histogram_add_up() {
        let histogram = Histogram::default();
        for ms in [0, 3, 3, 700, 100_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut page = Page::default();
        page.histogram("nap_seconds", "Naps.").durations(&[], &histogram);
        let text = page.into_text();
        for line in [
            "nap_seconds_bucket{le=\"0.0005\"} 1",
            "nap_seconds_bucket{le=\"0.0025\"} 1",
            "nap_seconds_bucket{le=\"0.005\"} 3",
            "nap_seconds_bucket{le=\"1\"} 4",
            "nap_seconds_bucket{le=\"+Inf\"} 5",
            "nap_seconds_sum 100.706",
            "nap_seconds_count 5",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
    }
}

#[cfg(test)]
mod fuzz {
    use fuzzing::hold;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn label_of_any_text_stays_within_its_quotes_and_comes_back() {
        hold(2_000, &any::<String>(), |text| {
            let escaped = Escaped(&text).to_string();
            let (mut back, mut letters) = (String::new(), escaped.chars());
            while let Some(letter) = letters.next() {
                prop_assert!(letter != '"' && letter != '\n', "{escaped}");
                back.push(match letter {
                    '\\' => match letters.next() {
                        Some('n') => '\n',
                        Some(other) => other,
                        None => return Err(TestCaseError::fail("it escapes the quote")),
                    },
                    other => other,
                });
            }
            prop_assert_eq!(back, text);
            Ok(())
        });
    }
}
