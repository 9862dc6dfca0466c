//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use daemon::config::{ConfigCommand, Flags};

use crate::config::{NodeSettings, SourceFlags, StateFlags};
use crate::tokens::MOST_DAYS;

/// Listens to a cat and serves its audio.
///
/// The microphone node of Meowlink. It records 16 kHz audio, keeps the last ten minutes on a tape, and streams them to
/// hubs over gRPC as numbered frames, live or from any point of the tape. To list the microphones, and to try the node
/// without one:
///
///   cat-node devices
///
///   cat-node --source synthetic --cat Tom
#[derive(Debug, Parser)]
#[command(name = "cat-node", version, args_conflicts_with_subcommands = true, after_long_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Option<SubCommand>,

    #[command(flatten)]
    serve: Flags<NodeSettings>,
}

const AFTER_HELP: &str = "\
Each setting can come from four places. A flag overrides an environment variable, a variable overrides the config \
file, and the file overrides the default. The items of a list in a variable are separated by commas. Variables with \
the older names, such as CAT_NODE_LISTEN, are still read. `cat-node config show` prints the settings in effect and the \
source of each.

The log goes to standard error; RUST_LOG=debug logs more. SIGTERM and Ctrl-C stop the node within 5 seconds, a second \
one at once.

Exit codes: 0 stopped as asked, 1 failed, 64 wrong options or config.";

#[derive(Debug, Subcommand)]
enum SubCommand {
    /// Capture sound and serve it (the default)
    Serve(Flags<NodeSettings>),
    /// List the microphones, with the ids to give to --source
    Devices(DevicesArgs),
    /// Record what the node would hear into a WAV file
    Record(RecordArgs),
    /// Show how loud it is, to find a place for a microphone
    Listen(ListenArgs),
    /// Show the node's id, or keep the id of a board that this one replaces
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Open a one-time code for a hub: run `hub pair CODE HOST` there within ten minutes
    Pair(SocketArgs),
    /// List the hubs that this node is paired with
    Hubs(SocketArgs),
    /// Forget a paired hub: its streams end at once
    Forget(ForgetArgs),
    /// Make, list or remove tokens, with which programs on other machines read /metrics
    #[command(subcommand)]
    Token(TokenCommand),
    /// Change the node's key, for example because a copy of the memory card was lost; paired hubs follow, streams go on
    RotateKey(SocketArgs),
    /// Print the settings in effect, or the schema of the config file
    #[command(subcommand)]
    Config(ConfigCommand<NodeSettings>),
}

/// Where the running node is.
#[derive(Debug, Clone, Args)]
pub struct SocketArgs {
    /// Socket of the running node [default: control.sock in the runtime folder of the service, or in the state folder]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// The service cat-node@NAME, if several nodes run on this machine
    #[arg(long, value_name = "NAME", conflicts_with = "socket", value_parser = instance)]
    pub instance: Option<String>,

    /// The state folder, over the config file.
    #[command(flatten)]
    pub settings: Flags<NodeSettings, StateFlags>,
}

/// The name of an instance of the service: a part of the name of a folder.
fn instance(name: &str) -> Result<String, String> {
    let is_name = !name.is_empty() && !name.contains('/');
    if is_name { Ok(name.to_owned()) } else { Err("give the NAME of cat-node@NAME".into()) }
}

/// Options of `cat-node forget`.
#[derive(Debug, Clone, Args)]
pub struct ForgetArgs {
    /// Name or key of the hub, as `cat-node hubs` shows it; 16 digits of the key are enough
    #[arg(value_name = "HUB")]
    pub name: String,

    /// Where the running node is.
    #[command(flatten)]
    pub at: SocketArgs,
}

/// Commands of `cat-node token`.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it, this once
    Add(AddTokenArgs),
    /// List the tokens: when they expire, and when they were used last
    List(SocketArgs),
    /// Remove a token: it is refused from now on
    Remove(RemoveTokenArgs),
}

/// Options of `cat-node token add`.
#[derive(Debug, Clone, Args)]
pub struct AddTokenArgs {
    /// A name for the token, such as that of the program that uses it
    #[arg(value_name = "NAME")]
    pub name: String,

    /// When it expires, in days, as in 90d [default: never]
    #[arg(long, value_name = "DAYS", value_parser = days)]
    pub expires: Option<u32>,

    /// Where the running node is.
    #[command(flatten)]
    pub at: SocketArgs,
}

/// Options of `cat-node token remove`.
#[derive(Debug, Clone, Args)]
pub struct RemoveTokenArgs {
    /// Name of the token, as `cat-node token list` shows it
    #[arg(value_name = "NAME")]
    pub name: String,

    /// Where the running node is.
    #[command(flatten)]
    pub at: SocketArgs,
}

/// A number of days: `90d`, or `90`.
fn days(text: &str) -> Result<u32, String> {
    daemon::terminal::days(text, MOST_DAYS)
}

/// Commands of `cat-node identity`.
#[derive(Debug, Clone, Subcommand)]
pub enum IdentityCommand {
    /// Print the node's id
    Show(Flags<NodeSettings, StateFlags>),
    /// Print the fingerprint of the node's present key, to compare it with `hub nodes list`
    Key(Flags<NodeSettings, StateFlags>),
    /// Print the node's certificate (PEM), with which a scraper of /metrics checks that it talks to this node
    Certificate(Flags<NodeSettings, StateFlags>),
    /// Take back the id that came with the memory card of another machine, which this one replaces; stop the node first
    Keep(Flags<NodeSettings, StateFlags>),
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// Capture and serve.
    Serve(Flags<NodeSettings>),
    /// List the microphones.
    Devices(DevicesArgs),
    /// Record into a WAV file.
    Record(RecordArgs),
    /// Show how loud it is.
    Listen(ListenArgs),
    /// Show or keep the node's id.
    Identity(IdentityCommand),
    /// Open a pairing code.
    Pair(SocketArgs),
    /// List the paired hubs.
    Hubs(SocketArgs),
    /// Forget a paired hub.
    Forget(ForgetArgs),
    /// Make, list or remove tokens.
    Token(TokenCommand),
    /// Change the node's key.
    RotateKey(SocketArgs),
    /// Print the settings, or their schema.
    Config(ConfigCommand<NodeSettings>),
}

/// Options of `cat-node devices`.
#[derive(Debug, Clone, Args)]
pub struct DevicesArgs {
    /// List the virtual devices of ALSA too: plughw, surround51, null, ...
    #[arg(long)]
    pub all: bool,
}

/// Options of `cat-node record`.
#[derive(Debug, Clone, Args)]
pub struct RecordArgs {
    /// WAV file to write; an existing file is replaced
    #[arg(value_name = "OUT.wav")]
    pub path: PathBuf,

    /// How long to record
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,

    /// What to record from, over the config file.
    #[command(flatten)]
    pub settings: Flags<NodeSettings, SourceFlags>,
}

/// Options of `cat-node listen`.
#[derive(Debug, Clone, Args)]
pub struct ListenArgs {
    /// Show a level meter, until Ctrl-C (the default)
    #[arg(long)]
    pub level: bool,

    /// What to listen to, over the config file.
    #[command(flatten)]
    pub settings: Flags<NodeSettings, SourceFlags>,
}

impl Cli {
    /// The command that was given. Without one, the node serves.
    pub fn command(self) -> Command {
        match self.command {
            None => Command::Serve(self.serve),
            Some(SubCommand::Serve(args)) => Command::Serve(args),
            Some(SubCommand::Devices(args)) => Command::Devices(args),
            Some(SubCommand::Record(args)) => Command::Record(args),
            Some(SubCommand::Listen(args)) => Command::Listen(args),
            Some(SubCommand::Identity(command)) => Command::Identity(command),
            Some(SubCommand::Pair(args)) => Command::Pair(args),
            Some(SubCommand::Hubs(args)) => Command::Hubs(args),
            Some(SubCommand::Forget(args)) => Command::Forget(args),
            Some(SubCommand::Token(command)) => Command::Token(command),
            Some(SubCommand::RotateKey(args)) => Command::RotateKey(args),
            Some(SubCommand::Config(command)) => Command::Config(command),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use daemon::config::Variables;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split(' ')).map(Cli::command)
    }

    #[test]
    fn definition_is_sound() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_with_and_without_options() {
        let options = "--source synthetic --seed 7 --cat Tom --listen 127.0.0.1:1 --listen [::1]:2 --owner http://x:1";
        for line in [format!("cat-node {options}"), format!("cat-node serve {options}")] {
            let Command::Serve(args) = parse(&line).unwrap() else { panic!("{line}") };
            let config = args.load_with(&Variables::default()).unwrap().settings;
            assert_eq!((config.cat.as_str(), config.source.to_string().as_str()), ("Tom", "synthetic"));
            assert_eq!(config.owner.to_string(), "http://x:1");
        }
        assert!(matches!(parse("cat-node").unwrap(), Command::Serve(_)));
        assert!(matches!(parse("cat-node serve").unwrap(), Command::Serve(_)));
    }

    #[test]
    fn record_takes_a_path_seconds_and_a_source() {
        let Command::Record(args) = parse("cat-node record a.wav --seconds 3 --source wav:x").unwrap() else {
            panic!("not record")
        };
        assert_eq!((args.path.to_str(), args.seconds), (Some("a.wav"), 3));
        let settings = args.settings.load_with(&Variables::default()).unwrap().settings;
        assert_eq!(settings.source.to_string(), "wav:x");
    }

    #[test]
    fn listen_takes_a_source() {
        for line in ["cat-node listen --level --source wav:x", "cat-node listen --source wav:x"] {
            let Command::Listen(args) = parse(line).unwrap() else { panic!("not listen") };
            let settings = args.settings.load_with(&Variables::default()).unwrap().settings;
            assert_eq!(settings.source.to_string(), "wav:x");
        }
    }

    #[test]
    fn token_expires_after_days_or_never() {
        for (line, wanted) in [
            ("cat-node token add grafana", None),
            ("cat-node token add grafana --expires 90d", Some(90)),
            ("cat-node token add grafana --expires 1", Some(1)),
        ] {
            let Command::Token(TokenCommand::Add(args)) = parse(line).unwrap() else { panic!("{line}") };
            assert_eq!((args.name.as_str(), args.expires), ("grafana", wanted), "{line}");
        }
        assert!(matches!(parse("cat-node token list").unwrap(), Command::Token(TokenCommand::List(_))));
        assert!(matches!(parse("cat-node token remove grafana").unwrap(), Command::Token(TokenCommand::Remove(_))));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "cat-node --sauce synthetic",
            "cat-node --source mic",
            "cat-node --seed minus",
            "cat-node --listen 50056",
            "cat-node --owner localhost:50051",
            "cat-node record",
            "cat-node record a.wav",
            "cat-node record a.wav --seconds 0",
            "cat-node record a.wav --seconds 1 --tape-bytes 64000",
            "cat-node config",
            "cat-node purr",
            "cat-node token",
            "cat-node token add",
            "cat-node token add grafana --expires 0d",
            "cat-node token add grafana --expires 3651d",
            "cat-node pair --instance a/b",
            "cat-node pair --instance a --socket /s",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
