//! Logs on standard error: fields, not sentences.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How a line of the log looks.
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
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Starts logging. `RUST_LOG` sets what is logged (`debug`, or `info,cat_node=debug`), `info` by default. Under systemd the
/// journal stamps the time, so the text format leaves it out.
///
/// Calling it twice keeps the first.
pub fn init(format: LogFormat) {
    let filter = filter(std::env::var("RUST_LOG").ok().as_deref());
    let to_journal = std::env::var_os("JOURNAL_STREAM").is_some();
    // A log that nobody takes (a reader that is gone, a full disk) must not stop anybody: the report of such an error would
    // panic in whoever logs.
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // An error here means that a subscriber is set already.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).finish().with(filter).try_init(),
        LogFormat::Text if to_journal => builder.without_time().with_ansi(false).finish().with(filter).try_init(),
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colour).finish().with(filter).try_init()
        }
    };
}

/// What `RUST_LOG` lets through. Targets and levels are all it knows: filters by span and field would bring a regular
/// expression engine of a megabyte along.
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
    fn levels_go_by_target() {
        let filter = filter(Some("warn,cat_node=debug"));
        assert!(filter.would_enable("cat_node::run", &Level::DEBUG));
        assert!(!filter.would_enable("tonic", &Level::INFO));
    }

    #[test]
    fn off_is_off() {
        assert!(!filter(Some("off")).would_enable("cat_node::run", &Level::ERROR));
    }
}
