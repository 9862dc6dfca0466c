//! The `cat-node` program: reads the command line, and starts what it asks for.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use cat_node::cli::{Cli, Command, DevicesArgs, IdentityCommand, ListenArgs, RecordArgs, SocketArgs, TokenCommand};
use cat_node::config::NodeSettings;
use cat_node::control::{self, Answer, Command as ControlCommand};
use cat_node::hubs::PairedHub;
use cat_node::listen::show_level;
use cat_node::record::record;
use cat_node::run::run;
use clap::Parser;
use daemon::cause::{cause, without_number};
use daemon::config::{ConfigCommand, ConfigError, Variables, print_line_error};
use daemon::identity::{Identity, Machine, OwnKey};
use daemon::pairing::warn_of_readable_secret;
use daemon::terminal::escape;
use daemon::tls::certificate_pem;
use daemon::{EXIT_FAILURE, EXIT_USAGE, descriptors, logs, shutdown};
use qrcode::render::unicode::Dense1x2;
use tracing::error;

/// How long a lookup of a name that hangs may keep the process at its end.
const BLOCKING_DEADLINE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            print_line_error(&error);
            return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command() {
        Command::Serve(flags) => serve(flags.settings_to_start(), flags.file_that_sets("pairing_secret").as_deref()),
        Command::Devices(args) => finish(devices(&args)),
        Command::Record(args) => record_wav(&args),
        Command::Listen(args) => show(&args),
        Command::Identity(command) => identity(&command),
        Command::Pair(at) => command(&at, ControlCommand::Pair),
        Command::Hubs(at) => command(&at, ControlCommand::ListHubs),
        Command::Forget(args) => command(&args.at, ControlCommand::ForgetHub { name: args.name }),
        Command::Token(TokenCommand::Add(args)) => {
            command(&args.at, ControlCommand::AddToken { name: args.name, days: args.expires })
        }
        Command::Token(TokenCommand::List(at)) => command(&at, ControlCommand::ListTokens),
        Command::Token(TokenCommand::Remove(args)) => {
            command(&args.at, ControlCommand::RemoveToken { name: args.name })
        }
        Command::RotateKey(at) => command(&at, ControlCommand::RotateKey),
        Command::Config(command) => print_config(&command),
    }
}

/// `secret_file`: the config file, if the pairing secret comes from it.
fn serve(config: Result<NodeSettings, ConfigError>, secret_file: Option<&Path>) -> ExitCode {
    with_config(config, async |config| {
        warn_of_readable_secret(secret_file);
        let stop = shutdown::on_signal()?;
        let addresses = config.addresses();
        if config.insecure {
            // Checked already, before there was a log: this says there which addresses are not loopback.
            let _ = addresses.check("listen", true);
        }
        let listeners = addresses.bind("listen").await?;
        run(config, listeners, stop).await?;
        Ok(())
    })
}

fn record_wav(args: &RecordArgs) -> ExitCode {
    with_config(args.settings.settings(), async |config| {
        let stop = shutdown::on_signal()?;
        record(config, &args.path, args.seconds, stop).await
    })
}

fn show(args: &ListenArgs) -> ExitCode {
    with_config(args.settings.settings(), async |config| {
        let stop = shutdown::on_signal()?;
        show_level(config, stop).await
    })
}

/// Runs `work` with a config that is good.
fn with_config(
    config: Result<NodeSettings, ConfigError>,
    work: impl AsyncFnOnce(NodeSettings) -> anyhow::Result<()>,
) -> ExitCode {
    let config = match config {
        Ok(config) => config,
        Err(error) => return bad_config(&error),
    };
    logs::init(config.log_format);
    Variables::of_process().warn_of_foreign::<NodeSettings>();
    descriptors::raise_limit();
    // One thread serves hundreds of listeners, and a second one would cost more in waking it than it gains.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    finish(runtime.context("the runtime cannot be started").and_then(|runtime| {
        let done = runtime.block_on(work(config));
        runtime.shutdown_timeout(BLOCKING_DEADLINE);
        done
    }))
}

fn identity(command: &IdentityCommand) -> ExitCode {
    let (IdentityCommand::Show(flags)
    | IdentityCommand::Key(flags)
    | IdentityCommand::Certificate(flags)
    | IdentityCommand::Keep(flags)) = command;
    match flags.settings() {
        Ok(config) => finish(key_of(command, config.state_folder()).and_then(|key| {
            print(&match command {
                IdentityCommand::Certificate(_) => certificate_pem(&key.key())?,
                IdentityCommand::Key(_) => format!("{}\n", key.fingerprint()),
                IdentityCommand::Show(_) | IdentityCommand::Keep(_) => format!("{}\n", key.id()),
            })
        })),
        Err(error) => bad_config(&error),
    }
}

/// The state folder of the service of the Debian package.
const SERVICE_STATE: &str = "/var/lib/cat-node";

fn key_of(command: &IdentityCommand, folder: Option<PathBuf>) -> anyhow::Result<OwnKey> {
    // Its id is the one that people ask for. The folder is a link that others than root can see and not follow.
    let service = || Path::new(SERVICE_STATE).symlink_metadata().is_ok().then(|| SERVICE_STATE.into());
    let folder = folder.or_else(service);
    let folder = folder.context("no state folder is set: give --state-dir, or state_dir in the config file")?;
    Ok(match command {
        IdentityCommand::Show(_) | IdentityCommand::Key(_) | IdentityCommand::Certificate(_) => {
            Identity::read(&folder)?
                .with_context(|| format!("{} has no key yet: the node makes it when it starts", folder.display()))?
        }
        IdentityCommand::Keep(_) => Identity::keep(&folder, &Machine::this())?,
    })
}

/// Gives the running node a command.
fn command(at: &SocketArgs, command: ControlCommand) -> ExitCode {
    let socket = match &at.socket {
        Some(socket) => socket.clone(),
        None => match at.settings.settings() {
            Ok(config) => match control::locate(config.state_dir.as_deref(), at.instance.as_deref()) {
                Ok(socket) => socket,
                Err(error) => return finish(Err(error.into())),
            },
            Err(error) => return bad_config(&error),
        },
    };
    finish(control::ask(&socket, command).map_err(anyhow::Error::from).and_then(|answer| print(&words(&answer))))
}

/// An answer of the node for people.
fn words(answer: &Answer) -> String {
    let line = |hub: &PairedHub| format!("{}  {}\n", hub.key, escape(&hub.name));
    match answer {
        Answer::Code(code) => {
            let picture = if std::io::stdout().is_terminal() { qr_code(code) } else { String::new() };
            format!("{code}\n{picture}\nOn the hub, within ten minutes: hub pair {code} {}\n", host_name())
        }
        Answer::Hubs(hubs) if hubs.is_empty() => "paired with no hub\n".into(),
        Answer::Hubs(hubs) => hubs.iter().map(line).collect(),
        Answer::Forgotten(hub) => format!("forgotten: {}", line(hub)),
        Answer::Token(token) => format!("{token}\n"),
        Answer::Tokens(tokens) if tokens.is_empty() => "no tokens\n".into(),
        Answer::Tokens(tokens) => tokens.iter().map(|token| format!("{}\n", token.line(SystemTime::now()))).collect(),
        Answer::TokenRemoved(name) => format!("removed: {}\n", escape(name)),
        Answer::KeyChanged(key) => format!("the node has a new key: {key}\n"),
        Answer::Error(message) => format!("{message}\n"),
    }
}

/// A picture of a code for a terminal, dark on light whatever the terminal's colours are. Empty: it cannot be drawn.
fn qr_code(code: &str) -> String {
    let Ok(drawn) = qrcode::QrCode::new(code) else { return String::new() };
    let picture = drawn.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let lines = picture.lines().map(|line| format!("\u{1b}[97;40m{line}\u{1b}[0m\n"));
    format!("\n{}", lines.collect::<String>())
}

/// The name by which other machines of the home reach this one.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().split('.').next().unwrap_or_default();
    if name.is_empty() { "HOST".into() } else { format!("{name}.local") }
}

fn bad_config(error: &ConfigError) -> ExitCode {
    logs::init(logs::LogFormat::default());
    error!(%error, "bad config");
    ExitCode::from(EXIT_USAGE)
}

fn print_config(command: &ConfigCommand<NodeSettings>) -> ExitCode {
    match command.text() {
        Ok(text) => finish(print(&text)),
        Err(error) => bad_config(&error),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.map_err(|error| anyhow::anyhow!("standard output: {}", cause(&error)))
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
            error!(error = without_number(format!("{error:#}")), "cat-node failed");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}
