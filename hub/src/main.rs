//! The `hub` program: reads the command line and runs the command.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use daemon::cause::{cause, without_number};
use daemon::config::{ConfigCommand, ConfigError, Variables, print_line_error};
use daemon::pairing::warn_of_readable_secret;
use daemon::{EXIT_FAILURE, EXIT_USAGE, descriptors, logs, shutdown};
use hub::cli::{Cli, ClockCommand, Command, ServeArgs, hint};
use hub::config::HubSettings;
use hub::run::{Listeners, RunError, run};
use hub_base::clock;
use tracing::error;

/// Threads of the async runtime. Long work (analyses, the store, pictures) runs on other threads, and passing a request
/// from one thread to another costs more than answering it. Measured on two cores, a `/cat/NAME` takes 80 µs of the
/// hub's CPU time with one thread and 118 µs with two.
const IO_THREADS: usize = 1;

/// Threads for blocking work, at most. Further work waits; database operations and the analysis of a second of audio
/// are short.
const MAX_BLOCKING_THREADS: usize = 16;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            print_line_error(&error);
            if let Some(hint) = hint(std::env::args_os()).filter(|_| error.use_stderr()) {
                // A closed standard error is no reason to fail in another way.
                let _ = writeln!(std::io::stderr(), "\nhint: {hint}");
            }
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command() {
        Command::Serve(args) => serve(&args),
        Command::Backup(args) => hub::backup::back_up(&args),
        Command::Restore(args) => hub::backup::bring_back(&args),
        Command::Analyze(args) => hub::files::analyze(&args),
        Command::Config(command) => print_config(&command),
        Command::Clock(command) => clock(&command),
        Command::Nodes(command) => hub::nodes::run(&command),
        Command::Pair(args) => hub::nodes::pair(&args),
        Command::Cert(args) => hub::cert::show(&args),
        Command::User(command) => hub::people::run_user(&command),
        Command::Token(command) => hub::people::run_token(&command),
    }
}

fn clock(command: &ClockCommand) -> ExitCode {
    let (ClockCommand::Accept(args) | ClockCommand::Status(args)) = command;
    let loaded = args.settings.load();
    let folder = match loaded.and_then(|loaded| loaded.settings.data_dir_of_client(&Variables::of_process())) {
        Ok(folder) => folder,
        Err(error) => return bad_config(&error),
    };
    let done = match command {
        ClockCommand::Accept(_) => {
            let said =
                "accepted; a running hub notices within half a minute, a hub that is started within the hour too\n";
            clock::accept(&folder).map(|()| said.to_owned())
        }
        ClockCommand::Status(_) => clock::status(&folder),
    };
    match done.and_then(|text| std::io::stdout().write_all(text.as_bytes())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logs::init(logs::LogFormat::default());
            error!(folder = %folder.display(), %error, "hub clock failed; --data-dir names the hub's data folder");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn bad_config(error: &ConfigError) -> ExitCode {
    logs::init(logs::LogFormat::default());
    error!(%error, "bad config");
    ExitCode::from(EXIT_USAGE)
}

fn print_config(command: &ConfigCommand<HubSettings>) -> ExitCode {
    match command.text() {
        Ok(text) => {
            let mut out = std::io::stdout().lock();
            match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    // A closed standard error is no reason to panic.
                    let _ = writeln!(std::io::stderr(), "standard output: {}", cause(&error));
                    ExitCode::from(EXIT_FAILURE)
                }
            }
        }
        Err(error) => bad_config(&error),
    }
}

fn serve(args: &ServeArgs) -> ExitCode {
    let mut config = match args.settings() {
        Ok(config) => config,
        Err(error) => return bad_config(&error),
    };
    config.backup.config_file = args.config_file();
    logs::init(config.log_format);
    Variables::of_process().warn_of_foreign::<HubSettings>();
    warn_of_readable_secret(args.file_that_sets("pairing_secret").as_deref());
    descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(IO_THREADS)
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .build();
    let done = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let done = runtime.block_on(async {
            let stop = shutdown::on_signal()?;
            let listeners = Listeners::bind(&config).await?;
            run(config, listeners, stop).await?;
            anyhow::Ok(())
        });
        // A blocking call that hangs must not keep the process alive.
        runtime.shutdown_timeout(std::time::Duration::from_millis(500));
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = without_number(format!("{error:#}")), "hub failed");
            // With this exit code, systemd does not restart the hub: a person has to correct the config first.
            let bad_config = matches!(error.downcast_ref(), Some(RunError::Config(_)));
            ExitCode::from(if bad_config { EXIT_USAGE } else { EXIT_FAILURE })
        }
    }
}
