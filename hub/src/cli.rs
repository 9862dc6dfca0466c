//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand, ValueEnum};
use daemon::config::{ConfigCommand, ConfigError, Flags, Selection};
use hub_base::time::MOST_DAYS;
use hub_nodes::Discover;
use hub_people::UserRole;
use jiff::tz::TimeZone;
use recordings::Channel;
use sound::detector::DetectorConfig;

use crate::config::HubSettings;

/// Listens to your cat-nodes, detects meows, serves the page and the API, and notifies owners.
///
/// The hub of Meowlink: the Owner, dog and cat analysis services (gRPC) and the HTTP gateway, in one process. Start it
/// without arguments on the machine where a cat-node runs, then try
///
///   curl http://localhost:5000/cat/Tom
///
///   curl -i http://localhost:5000/analyze/Tom
#[derive(Debug, Parser)]
#[command(name = "hub", version, args_conflicts_with_subcommands = true, after_long_help = AFTER_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    command: Option<SubCommand>,

    #[command(flatten)]
    serve: ServeArgs,
}

const AFTER_HELP: &str = "\
Each setting can come from four places: a flag overrides an environment variable, a variable overrides the config \
file, and the file overrides the default. A list in a variable is separated by commas. Settings of a \
section have variables too: [clips] pre_roll_ms is MEOWLINK_HUB_CLIPS_PRE_ROLL_MS. Variables with the older names, such \
as HUB_HTTP, are still read. `hub config show` prints the settings in effect and where each comes from.

The log goes to standard error; RUST_LOG=debug logs more. SIGTERM and Ctrl-C stop the hub within 5 seconds.

Exit codes: 0 stopped as asked, 1 failed, 64 wrong options or config.";

/// What to add to the error about a command line: `--discover` needs an equals sign before its value, because it may
/// have none. `None`: nothing.
pub fn hint(arguments: impl IntoIterator<Item = OsString>) -> Option<String> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let value = arguments.windows(2).find(|pair| pair[0] == "--discover")?[1].to_str()?;
    Discover::from_str(value).is_ok().then(|| format!("write it with an equals sign: --discover={value}"))
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one is made in the life of a process")]
enum SubCommand {
    /// Run the services (the default)
    Serve(ServeArgs),
    /// Find cat sounds in recordings; no server needed
    Analyze(AnalyzeArgs),
    /// Copy the database, the clips and the settings, also while the hub runs
    Backup(BackupArgs),
    /// Bring back a backup; the hub must be stopped
    Restore(RestoreArgs),
    /// Show the settings in effect, or describe the config file
    #[command(subcommand)]
    Config(ConfigCommand<HubSettings>),
    /// Say that the machine's time is right, or show whether the hub believes it
    #[command(subcommand)]
    Clock(ClockCommand),
    /// List the nodes of the running hub, and admit those that wait
    #[command(subcommand)]
    Nodes(NodesCommand),
    /// Pair the running hub with a node: `cat-node pair` on the node shows the code
    Pair(PairArgs),
    /// Change the key of the running hub, for example because a copy of its disk was lost; paired nodes follow
    RotateKey(SocketArgs),
    /// Show the certificate of the gateway and the CA that phones and computers need
    Cert(CertArgs),
    /// Add, list and remove the people who log in to the page
    #[command(subcommand)]
    User(UserCommand),
    /// Make, list and remove the tokens of programs
    #[command(subcommand)]
    Token(TokenCommand),
    /// Delete everything about a cat, or everything before a day, from the running hub
    ///
    /// First it shows how much would be deleted, then it asks. With both --cat and --before, what is about the cat and
    /// began before the time is deleted. Events, recordings, labels, notifications and analyses are deleted, and their
    /// copies in the quarantine and in the snapshots. Backups are your own copies: the hub does not change them.
    Delete(DeleteArgs),
}

/// Options of `hub delete`.
#[derive(Debug, Clone, Args)]
#[group(id = "scope", required = true, multiple = true, args = ["cat", "before"])]
pub struct DeleteArgs {
    /// Delete everything about the cat with this name
    #[arg(long, value_name = "NAME")]
    pub cat: Option<String>,

    /// Delete what began before this day (2026-01-31, from its start on this machine) or time (RFC 3339)
    #[arg(long, value_name = "DATE", value_parser = crate::day::start)]
    pub before: Option<String>,

    /// Do not ask
    #[arg(long)]
    pub yes: bool,

    /// Where the hub is.
    #[command(flatten)]
    pub at: SocketArgs,
}

/// Options of `hub pair`.
#[derive(Debug, Clone, Args)]
pub struct PairArgs {
    /// The code that `cat-node pair` shows, such as 7K3M-Q9TX
    #[arg(value_name = "CODE")]
    pub code: String,

    /// Host name or address of the node, with `:PORT` if that is not 50056. Without it, the hub tries the code at the
    /// waiting nodes that show one; a wrong code then uses one of the five tries at each
    #[arg(value_name = "HOST")]
    pub host: Option<String>,

    /// Where the hub is.
    #[command(flatten)]
    pub at: SocketArgs,
}

/// What to do about users. It works while the hub runs and while it does not.
///
/// Roles: a viewer sees the page and plays clips; a listener also hears live audio; an owner also labels, deletes and
/// calls animals; an admin also changes nodes, users and tokens. Once there is a user, the page and the API ask for a
/// log-in, on this machine too. A password is asked for on the terminal, or read as the first line of standard input.
#[derive(Debug, Clone, Subcommand)]
pub enum UserCommand {
    /// Add a user
    Add {
        /// Name to log in with: letters, digits and - _ . @
        #[arg(value_name = "NAME")]
        name: String,

        /// viewer, listener, owner or admin [default: admin for the first user, else viewer]
        #[arg(long, value_name = "ROLE", value_parser = role)]
        role: Option<UserRole>,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
    /// Change a password, and end all sessions of the user
    Passwd {
        /// The user
        #[arg(value_name = "NAME")]
        name: String,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
    /// Change what a user may do
    Role {
        /// The user
        #[arg(value_name = "NAME")]
        name: String,

        /// viewer, listener, owner or admin
        #[arg(value_name = "ROLE", value_parser = role)]
        role: UserRole,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
    /// List the users
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
    /// Remove a user, and end all sessions of the user; without users, nobody is asked to log in
    Remove {
        /// The user
        #[arg(value_name = "NAME")]
        name: String,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
}

/// What to do about the tokens of programs, which send them as `Authorization: Bearer TOKEN`. It works while the hub
/// runs and while it does not.
#[derive(Debug, Clone, Subcommand)]
pub enum TokenCommand {
    /// Make a token and print it; the hub does not keep its text
    Add {
        /// Name of the token: letters, digits and - _ . @
        #[arg(value_name = "NAME")]
        name: String,

        /// What the token allows: viewer, listener, owner or admin
        #[arg(long, value_name = "ROLE", value_parser = role)]
        role: UserRole,

        /// When it expires, in days, as in 90d [default: never]
        #[arg(long, value_name = "DAYS", value_parser = days)]
        expires: Option<u32>,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
    /// List the tokens, without their texts
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
    /// Remove a token: the hub refuses it from now on
    Remove {
        /// The token
        #[arg(value_name = "NAME")]
        name: String,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
}

fn role(word: &str) -> Result<UserRole, String> {
    word.parse()
}

/// A number of days: `90d`, or `90`.
fn days(text: &str) -> Result<u32, String> {
    daemon::terminal::days(text, MOST_DAYS)
}

/// What to do about the nodes of the running hub. NAME is the host name, URL, IP address, id, key or cat of a node; the
/// first 16 digits of an id or a key are enough.
#[derive(Debug, Clone, Subcommand)]
pub enum NodesCommand {
    /// List the nodes, and those that wait to be admitted
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
    /// Admit a waiting node: the hub listens to it from now on, also after a restart
    Admit {
        /// Host name, URL, IP address, id or cat of the node; `all` for every node that waits
        #[arg(value_name = "NAME")]
        name: String,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
    /// Drop a waiting node; the hub does not show it again until it is restarted
    Refuse {
        /// Host name, URL, IP address, id or cat of the node
        #[arg(value_name = "NAME")]
        name: String,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
    /// Take an admission or a pairing back: the hub stops listening to the node, which waits again when it announces
    /// itself. With discover = "admit-all", the hub does not listen to it until it is restarted
    #[command(visible_alias = "remove")]
    Forget {
        /// Host name, URL, IP address, id, key or cat of the node; the first 16 digits of an id or a key are enough
        #[arg(value_name = "NAME")]
        name: String,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
    /// Give the history of a node whose memory card or key is lost to the node that replaces it: events, clips, labels
    /// and the admission. The hub does not trust the old key any more
    Replace {
        /// Id, URL or host name of the node whose key is lost; the first 16 digits of the id are enough
        #[arg(value_name = "OLD")]
        old: String,

        /// Host name, URL, IP address, id or cat of the node that replaces it, paired or admitted before
        #[arg(value_name = "NEW")]
        new: String,

        /// Also if both nodes were heard at the same time, by the times of their events
        #[arg(long)]
        force: bool,

        /// Where the hub is.
        #[command(flatten)]
        at: SocketArgs,
    },
}

/// Where the running hub is.
#[derive(Debug, Clone, Args)]
pub struct SocketArgs {
    /// Socket of the running hub [default: control.sock in /run/meowlink-hub, else in the data folder]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Where the data is.
    #[command(flatten)]
    pub settings: Flags<HubSettings, DataFolder>,
}

/// What to do about the machine's clock. While the hub does not believe it, nothing is deleted by age.
#[derive(Debug, Clone, Subcommand)]
pub enum ClockCommand {
    /// Say that the machine's time is right: the hub deletes by age again, until the time jumps
    Accept(ClockArgs),
    /// Show whether the time is synchronised, and whether the hub believes it
    Status(ClockArgs),
}

/// Options of `hub clock`.
#[derive(Debug, Clone, Args)]
pub struct ClockArgs {
    /// Where the data is.
    #[command(flatten)]
    pub settings: Flags<HubSettings, DataFolder>,
}

/// What the command line asks for.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one is made in the life of a process")]
pub enum Command {
    /// Run the services.
    Serve(ServeArgs),
    /// Find cat sounds in recordings.
    Analyze(AnalyzeArgs),
    /// Copy what is stored.
    Backup(BackupArgs),
    /// Bring back a copy.
    Restore(RestoreArgs),
    /// Print something about the settings.
    Config(ConfigCommand<HubSettings>),
    /// Accept the machine's time, or show what is thought of it.
    Clock(ClockCommand),
    /// Do something about the nodes of the running hub.
    Nodes(NodesCommand),
    /// Pair the running hub with a node.
    Pair(PairArgs),
    /// Change the hub's key.
    RotateKey(SocketArgs),
    /// Print the fingerprints and the names of the certificates.
    Cert(CertArgs),
    /// Do something about the users.
    User(UserCommand),
    /// Do something about the tokens of programs.
    Token(TokenCommand),
    /// Delete everything about a cat or before a time.
    Delete(DeleteArgs),
}

/// Options of `hub serve`.
pub type ServeArgs = Flags<HubSettings>;

/// The setting that `hub backup`, `hub restore`, `hub clock`, `hub nodes` and `hub cert` need.
#[derive(Debug, Clone, Copy)]
pub enum DataFolder {}

impl Selection for DataFolder {
    fn includes(key: &str) -> bool {
        key == "data_dir"
    }
}

/// Options of `hub backup`.
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// Folder for backups, best on another disk; or an archive, whose name ends in .tar; or - for standard output
    #[arg(value_name = "DEST")]
    pub to: PathBuf,

    /// Take the secrets of the config file along, and the files with secrets that it names
    #[arg(long)]
    pub with_secrets: bool,

    /// Backups that the folder keeps; the oldest are deleted [default: the setting backup.keep, which is 7]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub keep: Option<u32>,

    /// Where the data is.
    #[command(flatten)]
    pub settings: Flags<HubSettings, DataFolder>,
}

/// Options of `hub cert`.
#[derive(Debug, Clone, Args)]
pub struct CertArgs {
    /// Where the data is.
    #[command(flatten)]
    pub settings: Flags<HubSettings, DataFolder>,
}

/// Options of `hub restore`.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// Folder of backups (its latest is restored), a backup in it, an archive, a snapshot (.sqlite), or - for an
    /// archive on standard input
    #[arg(value_name = "SRC")]
    pub from: PathBuf,

    /// Where the data goes.
    #[command(flatten)]
    pub settings: Flags<HubSettings, DataFolder>,
}

/// Options of `hub analyze`.
#[derive(Debug, Clone, Args)]
pub struct AnalyzeArgs {
    /// Recordings (WAV, FLAC, MP3, Opus, Ogg Vorbis, AAC, ALAC, AIFF, CAF), folders with recordings at any depth, or -
    /// for standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Channel to analyse: mix (the mean of all), left, right, a number from 1, or each [default: the mix, or one
    /// channel alone where the mix would hide the cat]
    #[arg(long, value_name = "CHANNEL")]
    pub channel: Option<Channels>,

    /// Time zone for the dates, such as Europe/Rome. The clock of a recorder that does not name its zone is taken as
    /// one of this zone
    #[arg(long, value_name = "ZONE", value_parser = time_zone)]
    pub tz: Option<TimeZone>,

    /// Format of the results [default: text for people]
    #[arg(long, value_enum, value_name = "FORMAT", conflicts_with_all = ["json", "csv"])]
    pub format: Option<ResultFormat>,

    /// The same as --format jsonl
    #[arg(long)]
    pub json: bool,

    /// The same as --format csv; with --csv=files one row per file
    #[arg(long, value_enum, value_name = "ROWS", num_args = 0..=1, require_equals = true, default_missing_value = "detections",
        conflicts_with = "json")]
    pub csv: Option<Rows>,

    /// Folder for the tables of raven and audacity [default: next to each recording]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Overwrite tables that have other content
    #[arg(long)]
    pub force: bool,

    /// Go on where an interrupted analysis stopped: leave out the recordings that FILE has, and write the results of
    /// the others behind them, as lines of JSON with full names. FILE is made if it is not there
    #[arg(long, value_name = "FILE", conflicts_with = "csv")]
    pub resume: Option<PathBuf>,

    /// Files analysed at the same time, 1 to 64 [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: Option<u8>,

    /// What counts as a cat.
    #[command(flatten)]
    pub detector: DetectorArgs,
}

/// Which channels of a recording are analysed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// One, or the mix.
    Only(Channel),
    /// All, one after the other.
    Each,
}

impl FromStr for Channels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("each") {
            return Ok(Self::Each);
        }
        text.parse().map(Self::Only).map_err(|_| {
            format!("\"{text}\" is not a channel; give mix, left, right, each, or the number of a channel from 1")
        })
    }
}

fn time_zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| format!("\"{name}\" is not a time zone; give a name like Europe/Rome or UTC"))
}

/// What the results are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ResultFormat {
    /// JSON, one line per file
    Jsonl,
    /// CSV, one row per detection
    Csv,
    /// One selection table per recording, for Raven
    Raven,
    /// One label track per recording, for Audacity
    Audacity,
}

/// The rows of the CSV.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Rows {
    /// One row per detection.
    Detections,
    /// One row per file, with the error if it cannot be analysed.
    Files,
}

/// What counts as a cat, where it differs from `[detector]` of a hub without config.
#[derive(Debug, Clone, Default, Args)]
pub struct DetectorArgs {
    /// Leave out detections with a lower score, 0 to 1 [default: 0.5]
    #[arg(long, value_name = "SCORE")]
    min_score: Option<f32>,

    /// A detection begins where the smoothed probability reaches this [default: 0.5]
    #[arg(long, value_name = "P")]
    on_probability: Option<f32>,

    /// A detection continues while the smoothed probability is at least this [default: 0.2]
    #[arg(long, value_name = "P")]
    off_probability: Option<f32>,

    /// Leave out detections shorter than this [default: 128]
    #[arg(long, value_name = "MS")]
    min_ms: Option<u32>,

    /// Merge detections that are closer than this [default: 256]
    #[arg(long, value_name = "MS")]
    merge_gap_ms: Option<u32>,

    /// Split detections that are longer than this [default: 10000]
    #[arg(long, value_name = "MS")]
    max_ms: Option<u32>,
}

impl AnalyzeArgs {
    /// The format of the results. `None`: text for people.
    ///
    /// # Errors
    /// Names a flag that does not go with the format.
    pub fn result_format(&self) -> Result<Option<ResultFormat>, String> {
        let format = match self.format {
            None if self.csv.is_some() => Some(ResultFormat::Csv),
            None if self.json || self.resume.is_some() => Some(ResultFormat::Jsonl),
            format => format,
        };
        let is_table = matches!(format, Some(ResultFormat::Raven | ResultFormat::Audacity));
        let tables_only = "only --format raven and --format audacity write files";
        match () {
            () if self.out.is_some() && !is_table => Err(format!("--out: {tables_only}")),
            () if self.force && !is_table => Err(format!("--force: {tables_only}")),
            () if self.resume.is_some() && format != Some(ResultFormat::Jsonl) => {
                Err("--resume: only results in the format jsonl can be continued".into())
            }
            () => Ok(format),
        }
    }
}

impl DetectorArgs {
    /// The config, what is not said by default.
    ///
    /// # Errors
    /// Names the flag that is out of bounds.
    pub fn config(&self) -> Result<DetectorConfig, ConfigError> {
        let default = DetectorConfig::default();
        let config = DetectorConfig {
            on_probability: self.on_probability.unwrap_or(default.on_probability),
            off_probability: self.off_probability.unwrap_or(default.off_probability),
            min_ms: self.min_ms.unwrap_or(default.min_ms),
            merge_gap_ms: self.merge_gap_ms.unwrap_or(default.merge_gap_ms),
            max_ms: self.max_ms.unwrap_or(default.max_ms),
            min_score: self.min_score.unwrap_or(default.min_score),
        };
        config
            .check()
            .map_err(|why| ConfigError::value(format!("--{}", why.key.replace('_', "-")), why.to_string()))?;
        Ok(config)
    }
}

impl Cli {
    /// What is asked for. Options before `serve` and after it mean the same.
    pub fn command(self) -> Command {
        match self.command {
            None => Command::Serve(self.serve),
            Some(SubCommand::Serve(serve)) => Command::Serve(serve),
            Some(SubCommand::Analyze(analyze)) => Command::Analyze(analyze),
            Some(SubCommand::Backup(backup)) => Command::Backup(backup),
            Some(SubCommand::Restore(restore)) => Command::Restore(restore),
            Some(SubCommand::Config(command)) => Command::Config(command),
            Some(SubCommand::Clock(command)) => Command::Clock(command),
            Some(SubCommand::Nodes(command)) => Command::Nodes(command),
            Some(SubCommand::Pair(args)) => Command::Pair(args),
            Some(SubCommand::RotateKey(at)) => Command::RotateKey(at),
            Some(SubCommand::Cert(args)) => Command::Cert(args),
            Some(SubCommand::User(command)) => Command::User(command),
            Some(SubCommand::Token(command)) => Command::Token(command),
            Some(SubCommand::Delete(args)) => Command::Delete(args),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use daemon::config::Variables;
    use daemon::listen::Listen;
    use hub_base::role::Role;

    use super::*;
    use crate::config::port;

    fn serve(args: &[&str]) -> ServeArgs {
        match Cli::try_parse_from([&["hub"], args].concat()).unwrap().command() {
            Command::Serve(serve) => serve,
            other => panic!("not serve: {other:?}"),
        }
    }

    /// The config without the environment of the machine that runs the tests.
    fn config(args: &[&str]) -> Result<HubSettings, ConfigError> {
        serve(args).settings_with(&Variables::default())
    }

    #[test]
    fn serve_is_the_default_and_its_flags_are_the_same() {
        for args in [
            &["--http", "127.0.0.1:1", "--data-dir", "/d"][..],
            &["serve", "--http", "127.0.0.1:1", "--data-dir", "/d"],
        ] {
            let config = config(args).unwrap();
            assert_eq!(config.addresses(Role::Gateway), Listen::At(vec!["127.0.0.1:1".parse().unwrap()]), "{args:?}");
        }
    }

    #[test]
    fn lists_are_repeated_flags_or_commas() {
        let args = ["--only", "owner,dog", "--data-dir", "/d", "--node", "Tom=http://a:1", "--node", "Ada=http://b:1"];
        let config = config(&args).unwrap();
        assert_eq!(config.roles(), [Role::Owner, Role::Dog]);
        assert_eq!(config.node.len(), 2);
    }

    #[test]
    fn flag_counts_for_more_than_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hub.toml");
        std::fs::write(&file, "data_dir = \"/from-file\"\nmax_analyses = 3\n").unwrap();
        let config = config(&["--config", file.to_str().unwrap(), "--data-dir", "/from-flag"]).unwrap();
        assert_eq!((config.data_dir.as_deref(), config.max_analyses), (Some(Path::new("/from-flag")), 3));
    }

    #[test]
    fn bad_file_names_file_and_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hub.toml");
        std::fs::write(&file, "htpp = [\"127.0.0.1:1\"]\n").unwrap();
        let error = config(&["--config", file.to_str().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("hub.toml") && error.contains("htpp"), "{error}");
    }

    #[test]
    fn nodes_of_the_file_are_texts_or_tables_and_are_shown_as_they_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hub.toml");
        let read = |text: &str| {
            std::fs::write(&file, format!("data_dir = \"/d\"\n{text}")).unwrap();
            config(&["--config", file.to_str().unwrap()])
        };
        for text in [
            "node = [\"Tom=http://a:1\", { url = \"http://b:1\", min_score = 0.8 }]\n",
            "[[node]]\nurl = \"http://a:1\"\ncat = \"Tom\"\n[[node]]\nurl = \"http://b:1\"\nmin_score = 0.8\n",
        ] {
            let nodes = read(text).unwrap().node;
            let [a, b] = &nodes[..] else { panic!("{nodes:?}") };
            assert_eq!(
                (a.cat.as_deref(), a.min_score, b.cat.as_deref(), b.min_score),
                (Some("Tom"), None, None, Some(0.8))
            );
            let shown = serve(&["--config", file.to_str().unwrap()]).load_with(&Variables::default()).unwrap();
            let shown = shown.to_toml(&[]).unwrap();
            assert!(shown.contains("min_score = 0.8 ") && shown.contains("hub.toml"), "{shown}");
            std::fs::write(&file, shown).unwrap();
            assert_eq!(config(&["--config", file.to_str().unwrap()]).unwrap().node, nodes);
        }
        assert_eq!(read("node = [\"Tom=http://a:1\"]\n").unwrap().min_scores(), [].into());
        for (table, words) in [
            ("url = \"http://b:1\"\nmin_score = 1.5", "node.1.min_score: 1.5 is not between 0 and 1"),
            ("url = \"http://b:1\"\nmin_score = nan", "node.1.min_score: nan is not between 0 and 1"),
            ("url = \"http://b:1\"\nmin_scor = 0.8", "node.1.min_scor: unknown key; did you mean \"min_score\"?"),
            ("url = \"http://b:1\"\nmin_score = \"high\"", "node.1.min_score: must be a number"),
            ("min_score = 0.8", "node.1: the key \"url\" is missing"),
            ("url = \"b\"\nmin_score = 0.8", "\"b\""),
        ] {
            let error = read(&format!("[[node]]\n{table}\n")).unwrap_err().to_string();
            assert!(error.contains("hub.toml") && error.contains(words), "{table}: {error}");
        }
    }

    #[test]
    fn other_addresses_need_insecure() {
        let args = ["--dog", "0.0.0.0:5000", "--data-dir", "/d"];
        assert!(config(&args).is_err());
        assert!(config(&[&args[..], &["--insecure"]].concat()).is_ok());
        assert!(config(&[&args[..], &["--insecure=false"]].concat()).is_err());
        // The gateway has TLS there, and the owner service too, for paired nodes.
        for key in ["--http", "--owner"] {
            assert!(config(&[key, "0.0.0.0:5000", "--data-dir", "/d"]).is_ok());
        }
    }

    #[test]
    fn analyze_needs_files() {
        assert!(Cli::try_parse_from(["hub", "analyze"]).is_err());
        let cli = Cli::try_parse_from(["hub", "analyze", "--json", "a.wav", "b.wav"]).unwrap();
        let Command::Analyze(analyze) = cli.command() else { panic!("not analyze") };
        assert!(analyze.json && analyze.files.len() == 2);
    }

    #[test]
    fn format_of_the_results_and_flags_that_do_not_go_with_it() {
        let format = |args: &[&str]| -> Result<Option<ResultFormat>, String> {
            let cli = Cli::try_parse_from([&["hub", "analyze", "a.wav"], args].concat());
            match cli.map_err(|error| error.to_string())?.command() {
                Command::Analyze(analyze) => analyze.result_format(),
                other => panic!("not analyze: {other:?}"),
            }
        };
        assert_eq!(format(&[]), Ok(None));
        for args in [&["--json"][..], &["--format", "jsonl"], &["--resume", "r"], &["--json", "--resume", "r"]] {
            assert_eq!(format(args), Ok(Some(ResultFormat::Jsonl)), "{args:?}");
        }
        for args in [&["--csv"][..], &["--csv=files"], &["--format", "csv"]] {
            assert_eq!(format(args), Ok(Some(ResultFormat::Csv)), "{args:?}");
        }
        assert_eq!(format(&["--format", "raven", "--out", "d", "--force"]), Ok(Some(ResultFormat::Raven)));
        for args in [
            &["--out", "d"][..],
            &["--json", "--force"],
            &["--format", "csv", "--resume", "r"],
            &["--csv", "--resume", "r"],
            &["--format", "csv", "--json"],
        ] {
            assert!(format(args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn discover_is_true_false_or_a_word() {
        let of = |args: &[&str]| config(&[args, &["--data-dir", "/d"]].concat()).map(|config| config.discover);
        assert_eq!(of(&[]).unwrap(), Discover::On);
        assert_eq!(of(&["--discover"]).unwrap(), Discover::On);
        assert_eq!(of(&["--discover=false"]).unwrap(), Discover::Off);
        assert_eq!(of(&["--discover=admit-all"]).unwrap(), Discover::AdmitAll);
        assert!(Cli::try_parse_from(["hub", "--discover=perhaps"]).is_err());
        let with = |value: &str| {
            let variables = [("MEOWLINK_HUB_DISCOVER", value), ("HOME", "/h")].into_iter().collect();
            serve(&[]).settings_with(&variables).map(|config| config.discover)
        };
        assert_eq!(with("admit-all").unwrap(), Discover::AdmitAll);
        assert_eq!(with("false").unwrap(), Discover::Off);
        let error = with("perhaps").unwrap_err().to_string();
        assert!(error.contains("\"perhaps\" is not true, false or \"admit-all\""), "{error}");
    }

    #[test]
    fn value_of_discover_without_an_equals_sign_gets_a_hint() {
        let of = |arguments: &[&str]| hint(arguments.iter().map(OsString::from));
        assert!(Cli::try_parse_from(["hub", "--discover", "admit-all"]).is_err());
        let expected = "write it with an equals sign: --discover=admit-all";
        assert_eq!(of(&["hub", "serve", "--discover", "admit-all"]).as_deref(), Some(expected));
        for arguments in [&["hub", "--discover"][..], &["hub", "--discover", "perhaps"], &["hub", "admit-all"]] {
            assert_eq!(of(arguments), None, "{arguments:?}");
        }
    }

    #[test]
    fn channel_that_is_none_is_refused_in_a_whole_sentence() {
        let error = "both".parse::<Channels>().unwrap_err();
        assert_eq!(error, "\"both\" is not a channel; give mix, left, right, each, or the number of a channel from 1");
        assert_eq!(("LEFT".parse(), "Each".parse()), (Ok(Channels::Only(Channel::One(1))), Ok(Channels::Each)));
    }

    #[test]
    fn nodes_are_named_and_the_hub_is_found_by_its_socket_or_its_data() {
        let nodes = |args: &[&str]| -> Result<NodesCommand, clap::error::ErrorKind> {
            let cli = Cli::try_parse_from([&["hub", "nodes"], args].concat()).map_err(|error| error.kind())?;
            match cli.command() {
                Command::Nodes(command) => Ok(command),
                other => panic!("not nodes: {other:?}"),
            }
        };
        let Ok(NodesCommand::Admit { name, at }) = nodes(&["admit", "attic", "--socket", "/s"]) else {
            panic!("not admit")
        };
        assert_eq!((name.as_str(), at.socket.as_deref()), ("attic", Some(Path::new("/s"))));
        let Ok(NodesCommand::List { json, at }) = nodes(&["list", "--json", "--data-dir", "/d"]) else {
            panic!("not list")
        };
        let settings = at.settings.load_with(&Variables::default()).unwrap().settings;
        assert!(json && settings.data_dir.as_deref() == Some(Path::new("/d")));
        assert!(nodes(&["admit"]).is_err() && nodes(&["refuse"]).is_err() && nodes(&["forget"]).is_err());
    }

    #[test]
    fn roles_and_days_of_tokens_are_checked() {
        let token = |args: &[&str]| Cli::try_parse_from([&["hub", "token", "add", "grafana"], args].concat());
        let cli = token(&["--role", "viewer", "--expires", "90d"]).unwrap();
        let Command::Token(TokenCommand::Add { role, expires, .. }) = cli.command() else { panic!("not a token") };
        assert_eq!((role, expires), (UserRole::Viewer, Some(90)));
        for bad in [&["--role", "king"][..], &[], &["--role", "viewer", "--expires", "0d"]] {
            assert!(token(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn deletion_needs_a_cat_or_a_day() {
        let delete = |args: &[&str]| Cli::try_parse_from([&["hub", "delete"], args].concat()).map(Cli::command);
        let Ok(Command::Delete(args)) = delete(&["--cat", "Tom", "--before", "2026-01-31T01:00:00+01:00"]) else {
            panic!("not a deletion")
        };
        assert_eq!((args.cat.as_deref(), args.before.as_deref()), (Some("Tom"), Some("2026-01-31T00:00:00Z")));
        assert!(!args.yes && delete(&["--before", "2026-01-31", "--yes"]).is_ok());
        for bad in [&[][..], &["--yes"], &["--before", "yesterday"], &["Tom"]] {
            assert!(delete(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn detector_flags_are_checked_like_the_config() {
        let config =
            |args: &[&str]| match Cli::try_parse_from([&["hub", "analyze", "a.wav"], args].concat()).unwrap().command()
            {
                Command::Analyze(analyze) => analyze.detector.config(),
                other => panic!("not analyze: {other:?}"),
            };
        assert_eq!(config(&[]).unwrap(), DetectorConfig::default());
        assert_eq!(
            config(&["--min-score", "0.9", "--max-ms", "5000"]).unwrap(),
            DetectorConfig { min_score: 0.9, max_ms: 5_000, ..DetectorConfig::default() }
        );
        let error = config(&["--merge-gap-ms", "9999"]).unwrap_err().to_string();
        assert!(error.starts_with("--merge-gap-ms: 9999 is not within 0 to 2000"), "{error}");
    }

    #[test]
    fn example_config_is_understood() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd/hub.toml");
        let config = config(&["--config", file.to_str().unwrap(), "--data-dir", "/d"]).unwrap();
        assert_eq!(config.roles(), Role::ALL);
        // What the package sets: other machines reach the services that have TLS there, and no others.
        let all = |port: u16| {
            Listen::At([format!("0.0.0.0:{port}"), format!("[::]:{port}")].map(|at| at.parse().unwrap()).to_vec())
        };
        let packaged = HubSettings {
            http: config.http.clone(),
            owner: config.owner.clone(),
            data_dir: Some("/d".into()),
            ..HubSettings::default()
        };
        assert_eq!(config, packaged);
        assert_eq!(config.addresses(Role::Gateway), all(port::HTTP));
        assert_eq!(config.addresses(Role::Owner), all(port::OWNER));
    }
}
