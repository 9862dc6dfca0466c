//! The `cat-node` program: reads the command line, and starts what it asks for.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use cat_node::cli::{Cli, Command, DevicesArgs, RecordArgs};
use cat_node::config::{Config, NodeSettings};
use cat_node::record::record;
use cat_node::run::run;
use clap::Parser;
use daemon::config::{ConfigCommand, ConfigError};
use daemon::{EXIT_FAILURE, EXIT_USAGE, descriptors, logs, shutdown};
use tracing::error;

/// How long a lookup of a name that hangs may keep the process at its end.
const BLOCKING_DEADLINE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // An error here means that the reader of the help has gone.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command() {
        Command::Serve(flags) => serve(Config::load(&flags)),
        Command::Devices(args) => finish(devices(&args)),
        Command::Record(args) => record_wav(&args),
        Command::Config(command) => print_config(&command),
    }
}

fn serve(config: Result<Config, ConfigError>) -> ExitCode {
    with_config(config, async |config| {
        let stop = shutdown::on_signal()?;
        // Checked already, before there was a log: this says there which addresses are not loopback.
        let _ = config.listen.check("listen", true);
        let listeners = config.listen.bind("listen").await?;
        run(config, listeners, stop).await?;
        Ok(())
    })
}

fn record_wav(args: &RecordArgs) -> ExitCode {
    with_config(Config::load(&args.settings), async |config| {
        let stop = shutdown::on_signal()?;
        record(config, &args.path, args.seconds, stop).await
    })
}

/// Runs `work` with a config that is good.
fn with_config(config: Result<Config, ConfigError>, work: impl AsyncFnOnce(Config) -> anyhow::Result<()>) -> ExitCode {
    let config = match config {
        Ok(config) => config,
        Err(error) => return bad_config(&error),
    };
    logs::init(config.log_format);
    descriptors::raise_limit();
    // One thread serves hundreds of listeners, and a second one would cost more in waking it than it gains.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    finish(runtime.context("the runtime cannot be started").and_then(|runtime| {
        let done = runtime.block_on(work(config));
        runtime.shutdown_timeout(BLOCKING_DEADLINE);
        done
    }))
}

fn bad_config(error: &ConfigError) -> ExitCode {
    logs::init(logs::LogFormat::default());
    error!(%error, "bad config");
    ExitCode::from(EXIT_USAGE)
}

fn print_config(command: &ConfigCommand<NodeSettings>) -> ExitCode {
    match command.text(NodeSettings::check) {
        Ok(text) => finish(std::io::stdout().write_all(text.as_bytes()).context("standard output")),
        Err(error) => bad_config(&error),
    }
}

#[cfg(feature = "microphone")]
fn devices(args: &DevicesArgs) -> anyhow::Result<()> {
    let devices = cat_node::source::microphone::devices(args.all).map_err(anyhow::Error::msg)?;
    let mut out = std::io::stdout().lock();
    for device in devices {
        write!(out, "{device}")?;
    }
    Ok(())
}

#[cfg(not(feature = "microphone"))]
fn devices(_: &DevicesArgs) -> anyhow::Result<()> {
    anyhow::bail!("this cat-node was built without microphones (cargo feature \"microphone\")")
}

fn finish(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logs::init(logs::LogFormat::default());
            error!(error = %format!("{error:#}"), "cat-node failed");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}
