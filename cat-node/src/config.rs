//! What the user may set, from four layers: flag, environment variable, config file, default.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use daemon::config::{ConfigError, load};
use daemon::listen::Listen;
use daemon::logs::LogFormat;
use serde::Deserialize;
use tonic::transport::Uri;

use crate::capture::CaptureSettings;
use crate::source::{DEFAULT_SEED, SourceSpec};
use crate::tape::{FRAME_BYTES, SpillConfig};

/// Port that original clients dial.
pub const DEFAULT_PORT: u16 = 50056;

/// Where original owners are: the name, since some are on `::1` alone.
pub const DEFAULT_OWNER: &str = "http://localhost:50051";

/// Ten minutes of plain samples.
pub const DEFAULT_TAPE_BYTES: u64 = 600 * 50 * FRAME_BYTES as u64;

/// From one second to about nine hours. A tape must hold at least the second that `AnalyzeCatSound` sends, and needs up to so
/// much memory.
pub const TAPE_BYTES: RangeInclusive<u64> = 50 * FRAME_BYTES as u64..=1 << 30;

/// Disk that a spill of the tape may take: a day and more of a quiet room when nothing is said.
pub const DEFAULT_SPILL_BYTES: u64 = 1_000_000_000;

/// From about a minute to about two months.
pub const SPILL_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 36;

/// Longest that a caller may be kept waiting for the owner, in milliseconds.
pub const OWNER_TIMEOUT_MS: RangeInclusive<u64> = 1..=60_000;

/// Amplification beyond this is noise, in dB.
pub const GAIN_DB: RangeInclusive<f32> = -60.0..=60.0;

/// How long a microphone may be exactly silent before that is said, in seconds.
pub const SILENT_AFTER_S: RangeInclusive<u64> = 1..=86_400;

/// What a node runs with.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// Whether it may listen on other addresses than loopback.
    pub insecure: bool,
    /// The owner that is notified.
    pub owner: OwnerUrl,
    /// How long a caller waits for the owner.
    pub owner_timeout: Duration,
    /// The cat that this node listens to. Empty: none.
    pub cat: String,
    /// What it hears from.
    pub source: SourceSpec,
    /// How it hears.
    pub capture: CaptureSettings,
    /// Bytes of plain samples that the tape is made for.
    pub tape_bytes: u64,
    /// Where the tape goes on when it is too long for that. `None`: nowhere.
    pub spill: Option<SpillConfig>,
    /// Whether it announces itself by mDNS, when it listens beyond loopback.
    pub announce: bool,
    /// How a line of the log looks.
    pub log_format: LogFormat,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Listen::Loopback(DEFAULT_PORT),
            insecure: false,
            owner: OwnerUrl::default(),
            owner_timeout: Duration::from_secs(2),
            cat: String::new(),
            source: default_source(),
            capture: CaptureSettings::default(),
            tape_bytes: DEFAULT_TAPE_BYTES,
            spill: None,
            announce: true,
            log_format: LogFormat::default(),
        }
    }
}

/// A node is a microphone; one that was built without never makes up a cat unasked, so it has to be told.
fn default_source() -> SourceSpec {
    SourceSpec::Microphone { id: None }
}

/// Where the owner is: `http://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct OwnerUrl(String);

impl Default for OwnerUrl {
    fn default() -> Self {
        Self(DEFAULT_OWNER.into())
    }
}

impl FromStr for OwnerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("\"{text}\" is not a URL: {error}"))?;
        match (uri.scheme_str(), uri.host(), uri.path()) {
            (Some("http"), Some(host), "" | "/") if !host.is_empty() => Ok(Self(text.into())),
            (Some("https"), ..) => Err(format!("\"{text}\": TLS is not known yet, give an http:// URL")),
            _ => Err(format!("\"{text}\" is not of the form http://HOST:PORT")),
        }
    }
}

impl TryFrom<String> for OwnerUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for OwnerUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The upper layers: flags, and environment variables where a flag is not given.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigArgs {
    /// Config file (TOML), with the long options as keys: owner-timeout-ms is owner_timeout_ms there
    #[arg(long, value_name = "FILE", env = "CAT_NODE_CONFIG")]
    pub config: Option<PathBuf>,

    /// Where to listen; may be given several times [default: port 50056 on 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDR:PORT", env = "CAT_NODE_LISTEN", value_delimiter = ',')]
    listen: Option<Vec<SocketAddr>>,

    /// The owner that CallCat notifies [default: http://localhost:50051]
    #[arg(long, value_name = "URL", env = "CAT_NODE_OWNER")]
    owner: Option<OwnerUrl>,

    /// How long a caller waits for the owner, in milliseconds [default: 2000]
    #[arg(long, value_name = "MS", env = "CAT_NODE_OWNER_TIMEOUT_MS")]
    owner_timeout_ms: Option<u64>,

    /// The cat that this node listens to; a hub with several nodes goes by it
    #[arg(long, value_name = "NAME", env = "CAT_NODE_CAT")]
    cat: Option<String>,

    #[command(flatten)]
    source: SourceArgs,

    /// Memory for the tape, in bytes of plain samples: 32000 a second [default: 19200000, ten minutes]
    #[arg(long, value_name = "BYTES", env = "CAT_NODE_TAPE_BYTES")]
    tape_bytes: Option<u64>,

    /// Folder where the tape goes on, on disk, when memory is full; its own, for files in it are removed [default: none]
    #[arg(long, value_name = "DIR", env = "CAT_NODE_SPILL_DIR")]
    spill_dir: Option<PathBuf>,

    /// Disk that the tape may take there, in bytes: about 12000 a second in a quiet room [default: 1000000000]
    #[arg(long, value_name = "BYTES", env = "CAT_NODE_SPILL_BYTES")]
    spill_bytes: Option<u64>,

    /// Announce this node by mDNS (_cat-node._tcp), so that a hub finds it; only when it listens beyond loopback
    /// [default: true]
    #[arg(long, env = "CAT_NODE_ANNOUNCE", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL")]
    announce: Option<bool>,

    /// Listen on addresses other than loopback too, though nothing is encrypted and nobody is asked who they are
    #[arg(long, env = "CAT_NODE_INSECURE", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_name = "BOOL")]
    insecure: Option<bool>,

    /// How a line of the log looks [default: text]
    #[arg(long, value_enum, env = "CAT_NODE_LOG_FORMAT")]
    log_format: Option<LogFormat>,
}

/// The options that say what to hear from, and how.
#[derive(Debug, Clone, Default, Args)]
pub struct SourceArgs {
    /// What to hear from: microphone, microphone:ID (see `cat-node devices`), synthetic (a made-up cat), synthetic:silence
    /// (its room alone), or wav:PATH (a WAV file, or a folder of them) [default: microphone]
    #[arg(long, value_name = "SOURCE", env = "CAT_NODE_SOURCE")]
    source: Option<SourceSpec>,

    /// Seed of the synthetic source: the same seed gives the same samples [default: 1]
    #[arg(long, value_name = "N", env = "CAT_NODE_SEED")]
    seed: Option<u64>,

    /// Play a recording once instead of for ever
    #[arg(long = "once", env = "CAT_NODE_WAV_ONCE", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_name = "BOOL")]
    wav_once: Option<bool>,

    /// Amplification, in dB [default: 0]
    #[arg(long, value_name = "DB", env = "CAT_NODE_GAIN_DB", allow_negative_numbers = true)]
    gain_db: Option<f32>,

    /// After so many seconds of exactly zero samples the microphone is called silent [default: 10]
    #[arg(long, value_name = "S", env = "CAT_NODE_SILENT_AFTER_S")]
    silent_after_s: Option<u64>,
}

/// The config file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileConfig {
    listen: Option<Vec<SocketAddr>>,
    owner: Option<OwnerUrl>,
    owner_timeout_ms: Option<u64>,
    cat: Option<String>,
    source: Option<SourceSpec>,
    seed: Option<u64>,
    wav_once: Option<bool>,
    gain_db: Option<f32>,
    silent_after_s: Option<u64>,
    tape_bytes: Option<u64>,
    spill_dir: Option<PathBuf>,
    spill_bytes: Option<u64>,
    announce: Option<bool>,
    insecure: Option<bool>,
    log_format: Option<LogFormat>,
}

impl ConfigArgs {
    /// What `cat-node record` needs of a config: these options over a file, and defaults for the rest.
    pub fn of_source(config: Option<PathBuf>, source: SourceArgs) -> Self {
        Self { config, source, ..Self::default() }
    }

    /// Lays the layers over each other and checks the values.
    ///
    /// # Errors
    /// Names the key, and the file when it is there that something is wrong.
    pub fn resolve(self) -> Result<Config, ConfigError> {
        let alone = Self { config: self.config.clone(), ..Self::default() };
        let path = alone.config.clone();
        self.layered().map_err(|error| error.in_file(path.as_deref(), || alone.layered()))
    }

    fn layered(self) -> Result<Config, ConfigError> {
        let file: FileConfig = match &self.config {
            Some(path) => load(path)?,
            None => FileConfig::default(),
        };
        let defaults = Config::default();
        let source = self.source.source.or(file.source).unwrap_or(defaults.source);
        let listen = Listen::given_or_loopback(&self.listen.or(file.listen).unwrap_or_default(), DEFAULT_PORT);
        let insecure = self.insecure.or(file.insecure).unwrap_or(false);
        listen.check("listen", insecure)?;
        check_source(&source)?;
        let owner_timeout_ms = within(
            "owner_timeout_ms",
            self.owner_timeout_ms.or(file.owner_timeout_ms),
            &OWNER_TIMEOUT_MS,
            defaults.owner_timeout.as_millis() as u64,
        )?;
        let silent_after_s = within(
            "silent_after_s",
            self.source.silent_after_s.or(file.silent_after_s),
            &SILENT_AFTER_S,
            defaults.capture.silent_after.as_secs(),
        )?;
        let spill_bytes =
            within("spill_bytes", self.spill_bytes.or(file.spill_bytes), &SPILL_BYTES, DEFAULT_SPILL_BYTES)?;
        let gain_db = within("gain_db", self.source.gain_db.or(file.gain_db), &GAIN_DB, defaults.capture.gain_db)?;
        Ok(Config {
            listen,
            insecure,
            owner: self.owner.or(file.owner).unwrap_or(defaults.owner),
            owner_timeout: Duration::from_millis(owner_timeout_ms),
            cat: self.cat.or(file.cat).unwrap_or(defaults.cat),
            source: source
                .with_seed(self.source.seed.or(file.seed).unwrap_or(DEFAULT_SEED))
                .with_once(self.source.wav_once.or(file.wav_once).unwrap_or(false)),
            capture: CaptureSettings { gain_db, silent_after: Duration::from_secs(silent_after_s) },
            tape_bytes: within("tape_bytes", self.tape_bytes.or(file.tape_bytes), &TAPE_BYTES, defaults.tape_bytes)?,
            spill: self.spill_dir.or(file.spill_dir).map(|dir| SpillConfig { dir, bytes: spill_bytes }),
            announce: self.announce.or(file.announce).unwrap_or(defaults.announce),
            log_format: self.log_format.or(file.log_format).unwrap_or(defaults.log_format),
        })
    }
}

fn within<T>(key: &str, given: Option<T>, range: &RangeInclusive<T>, default: T) -> Result<T, ConfigError>
where
    T: PartialOrd + fmt::Display,
{
    let value = given.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::value(key, format!("{value} is not between {} and {}", range.start(), range.end())))
}

#[cfg(feature = "microphone")]
fn check_source(source: &SourceSpec) -> Result<(), ConfigError> {
    match source {
        SourceSpec::Microphone { id: Some(id) } => {
            crate::source::microphone::check_id(id).map_err(|why| ConfigError::value("source", why))
        }
        _ => Ok(()),
    }
}

#[cfg(not(feature = "microphone"))]
fn check_source(source: &SourceSpec) -> Result<(), ConfigError> {
    match source {
        SourceSpec::Microphone { .. } => {
            let why = "this cat-node was built without microphones; give synthetic or wav:PATH";
            Err(ConfigError::value("source", why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: ConfigArgs,
    }

    fn resolve(line: &[&str]) -> Result<Config, ConfigError> {
        let line = std::iter::once("cat-node").chain(line.iter().copied());
        <Line as clap::Parser>::try_parse_from(line).unwrap().args.resolve()
    }

    fn resolve_file(text: &str, line: &[&str]) -> Result<Config, ConfigError> {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        resolve(&[&["--config", file.path().to_str().unwrap()], line].concat())
    }

    #[test]
    fn nothing_given_means_the_defaults() {
        assert_eq!(
            resolve(&["--source", "synthetic"]).unwrap(),
            Config { source: SourceSpec::Synthetic { seed: DEFAULT_SEED, vocalisations: true }, ..Config::default() }
        );
        assert_eq!(Config::default().tape_bytes, 19_200_000);
    }

    #[test]
    fn the_example_file_says_what_the_defaults_are() {
        let example = include_str!("../../systemd/cat-node.toml");
        assert_eq!(resolve_file(example, &["--source", "synthetic"]).unwrap().owner, OwnerUrl::default());
        // With every setting uncommented it still parses, and each is the default.
        let settings: String = example
            .lines()
            .filter(|line| line.split_once(" = ").is_some_and(|(key, _)| !key.trim_start_matches("# ").contains(' ')))
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect();
        let config = resolve_file(&settings, &["--source", "synthetic"]).unwrap();
        let listen = Listen::At(vec!["127.0.0.1:50056".parse().unwrap(), "[::1]:50056".parse().unwrap()]);
        let source = SourceSpec::Synthetic { seed: DEFAULT_SEED, vocalisations: true };
        assert_eq!(config, Config { listen, source, ..Config::default() });
        for key in ["listen", "owner", "owner_timeout_ms", "cat", "source", "seed", "wav_once", "gain_db"] {
            assert!(settings.contains(&format!("{key} = ")), "{key} is missing");
        }
        for key in ["silent_after_s", "tape_bytes", "spill_bytes", "announce", "insecure", "log_format"] {
            assert!(settings.contains(&format!("{key} = ")), "{key} is missing");
        }
    }

    #[test]
    fn flags_lie_over_the_file() {
        let file = "owner = \"http://a:1\"\ncat = \"Tom\"\nseed = 5\nsource = \"synthetic\"\ngain_db = 3.5\n";
        let config = resolve_file(file, &["--owner", "http://b:2"]).unwrap();
        assert_eq!(config.owner.to_string(), "http://b:2");
        assert_eq!((config.cat.as_str(), config.capture.gain_db), ("Tom", 3.5));
        assert_eq!(config.source, SourceSpec::Synthetic { seed: 5, vocalisations: true });
    }

    #[test]
    fn mistakes_in_the_file_name_file_and_key() {
        for (text, key) in [
            ("lisen = []", "lisen"),
            ("owner = \"ftp://x\"", "owner"),
            ("source = \"mic\"", "source"),
            ("listen = [\"nowhere\"]", "listen"),
            ("tape_bytes = -1", "tape_bytes"),
            ("log_format = \"xml\"", "log_format"),
        ] {
            let error = resolve_file(text, &[]).unwrap_err().to_string();
            assert!(error.contains(".toml: ") && error.contains(key) && error.contains("line 1"), "{error}");
        }
    }

    #[test]
    fn values_that_make_no_sense_name_the_key() {
        for (line, key) in [
            (["--tape-bytes", "31999"], "tape_bytes"),
            (["--tape-bytes", "1073741825"], "tape_bytes"),
            (["--spill-bytes", "1048575"], "spill_bytes"),
            (["--owner-timeout-ms", "0"], "owner_timeout_ms"),
            (["--gain-db", "-61"], "gain_db"),
            (["--gain-db", "NaN"], "gain_db"),
            (["--silent-after-s", "0"], "silent_after_s"),
            (["--listen", "0.0.0.0:1"], "listen"),
        ] {
            let error = resolve(&[&["--source", "synthetic"], &line[..]].concat()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: ")), "{error}");
        }
    }

    #[test]
    fn tape_goes_to_disk_only_when_told_where() {
        assert_eq!(resolve_file("spill_bytes = 2000000\nsource = \"synthetic\"", &[]).unwrap().spill, None);
        let config = resolve_file("spill_dir = \"/var/lib/cat-node/tape\"\nsource = \"synthetic\"", &[]).unwrap();
        let spill = SpillConfig { dir: "/var/lib/cat-node/tape".into(), bytes: DEFAULT_SPILL_BYTES };
        assert_eq!(config.spill, Some(spill));
    }

    #[test]
    fn other_addresses_need_insecure() {
        let line = ["--source", "synthetic", "--listen", "0.0.0.0:1", "--insecure"];
        assert!(resolve(&line).unwrap().insecure);
        assert!(resolve(&[&line[..4], &["--insecure=false"]].concat()).is_err());
    }

    #[test]
    fn owner_urls_are_checked() {
        for url in ["http://localhost:50051", "http://[::1]:50051/", "http://owner"] {
            assert!(url.parse::<OwnerUrl>().is_ok(), "{url}");
        }
        for url in ["localhost:50051", "https://x:1", "http://", "http://x/path", "", "http://x y"] {
            let error = url.parse::<OwnerUrl>().unwrap_err();
            assert!(error.contains(&format!("\"{url}\"")), "{error}");
        }
    }

    #[cfg(feature = "microphone")]
    #[test]
    fn the_number_of_a_card_is_no_id() {
        let error = resolve(&["--source", "microphone:1"]).unwrap_err().to_string();
        assert!(error.starts_with("source: ") && error.contains("boot"), "{error}");
    }
}
