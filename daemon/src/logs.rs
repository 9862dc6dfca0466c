//! Logs on standard error.

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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
    let builder = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    // An error means that logging was started before.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).finish().with(filter).try_init(),
        LogFormat::Text if to_journal => builder.without_time().with_ansi(false).finish().with(filter).try_init(),
        LogFormat::Text => {
            let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colour).finish().with(filter).try_init()
        }
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
    fn off_is_off() {
        assert!(!filter(Some("off")).would_enable("cat_node::run", &Level::ERROR));
    }
}
