//! Logs on standard error. Each event is one line, whatever its fields hold.

use std::io::IsTerminal;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::terminal::Lines;

/// The format of the log.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    clap::ValueEnum,
    schemars::JsonSchema,
    serde::Deserialize,
    serde::Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines of text, for people.
    #[default]
    Text,
    /// One JSON object for each message, for machines.
    Json,
}

/// Starts logging. The environment variable `RUST_LOG` sets what is logged, such as `debug` or `info,cat_node=debug`;
/// the default is `info`. Under systemd the text format leaves out the time, because the journal adds it.
///
/// A second call changes nothing.
pub fn init(format: LogFormat) {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref());
    let to_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    // If a message cannot be written (the reader is gone, the disk is full), the daemon must go on. To report that on
    // standard error would panic in the thread that logs.
    let colours = format == LogFormat::Text && !to_journal && std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(move || Lines { out: std::io::stderr(), colours })
        .log_internal_errors(false);
    // An error means that logging was started before.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).finish().with(filter).try_init(),
        LogFormat::Text if to_journal => builder.without_time().with_ansi(false).finish().with(filter).try_init(),
        LogFormat::Text => builder.with_ansi(colours).finish().with(filter).try_init(),
    };
}

/// Parses `RUST_LOG`. Only targets and levels are supported: filters by span and field would need a regular expression
/// engine, which adds a megabyte to the program.
fn filter(rust_log: Option<&str>) -> Targets {
    let rust_log = rust_log.filter(|text| !text.trim().is_empty());
    let targets: Targets = rust_log.and_then(|text| text.parse().ok()).unwrap_or_default();
    match targets.default_level() {
        Some(level) if level != LevelFilter::OFF || rust_log == Some("off") => targets,
        _ => targets.with_default(LevelFilter::INFO),
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn info_is_the_default() {
        for rust_log in [None, Some(""), Some("no such = level"), Some("tower=debug")] {
            let filter = filter(rust_log);
            assert!(filter.would_enable("cat_node::run", &Level::INFO), "{rust_log:?}");
            assert!(!filter.would_enable("cat_node::run", &Level::DEBUG), "{rust_log:?}");
        }
    }

    #[test]
    fn each_target_has_its_level() {
        let filter = filter(Some("warn,cat_node=debug"));
        assert!(filter.would_enable("cat_node::run", &Level::DEBUG));
        assert!(!filter.would_enable("tonic", &Level::INFO));
    }

    #[test]
    fn event_is_one_line_whatever_its_fields_hold() {
        use std::io::Write;
        use std::sync::{Arc, Mutex, PoisonError};

        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let foreign = "gone\n2026 INFO hub: all is well\u{1b}[2K\r";
        for colours in [false, true] {
            let kept = Kept::default();
            let out = kept.clone();
            let log = tracing_subscriber::fmt()
                .with_ansi(colours)
                .with_writer(move || Lines { out: out.clone(), colours })
                .finish();
            tracing::subscriber::with_default(log, || {
                tracing::warn!(error = %foreign, name = foreign, list = ?[foreign], "{foreign}");
            });
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(!text.contains("\u{1b}[2K") && !text.contains('\r') && text.contains("all is well"), "{text:?}");
        }
    }

    #[test]
    fn off_is_off() {
        assert!(!filter(Some("off")).would_enable("cat_node::run", &Level::ERROR));
    }
}
