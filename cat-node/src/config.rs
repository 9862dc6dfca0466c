//! What the user may set, from four layers: flag, environment variable, config file, default.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use daemon::config::{ConfigError, Derived, Secret, Selection, Settings, Variables, as_text, mask_url};
use daemon::listen::Listen;
use daemon::logs::LogFormat;
use daemon::pairing::PairingSecret;
use daemon::systemd;
use daemon::url::HttpUrl;
use recordings::Channel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::capture::CaptureSettings;
use crate::source::{DEFAULT_SEED, SourceSpec};
use crate::tape::{FRAME_BYTES, SpillConfig};

/// Port that original clients dial.
pub const DEFAULT_PORT: u16 = 50056;

/// Where original owners are, at `localhost`: the name, since some are on `::1` alone.
pub const DEFAULT_OWNER_PORT: u16 = 50051;

/// Ten minutes of plain samples.
pub const DEFAULT_TAPE_BYTES: u64 = 600 * 50 * FRAME_BYTES as u64;

/// From one second to about nine hours. A tape must hold at least the second that `AnalyzeCatSound` sends, and may
/// take as much memory as it has bytes.
pub const TAPE_BYTES: RangeInclusive<u64> = 50 * FRAME_BYTES as u64..=1 << 30;

/// Disk space for a spilled tape by default: more than a day of a quiet room.
pub const DEFAULT_SPILL_BYTES: u64 = 1_000_000_000;

/// From about a minute to about two months.
pub const SPILL_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 36;

/// How long a caller may have to wait for the owner, in milliseconds.
pub const OWNER_TIMEOUT_MS: RangeInclusive<u64> = 1..=60_000;

/// Amplification beyond this is noise, in dB.
pub const GAIN_DB: RangeInclusive<f32> = -60.0..=60.0;

/// After how many seconds of exact silence a microphone may be reported as silent.
pub const SILENT_AFTER_S: RangeInclusive<u64> = 1..=86_400;

// The comments of the fields are the help of the flags, and the descriptions in the schema.
/// Settings of a cat-node.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeSettings {
    /// Address and port to listen on; may be given several times [default: port 50056 on 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,

    /// The owner service that CallCat notifies
    #[arg(long, value_name = "URL")]
    pub owner: OwnerUrl,

    /// How long a caller waits for the owner, in milliseconds
    #[arg(long, value_name = "MS")]
    #[schemars(range(min = *OWNER_TIMEOUT_MS.start(), max = *OWNER_TIMEOUT_MS.end()))]
    pub owner_timeout_ms: u64,

    /// Name of the cat that this node listens to; a hub with several nodes selects the node by it
    #[arg(long, value_name = "NAME")]
    pub cat: String,

    /// Where the sound comes from: microphone, microphone:ID (`cat-node devices` lists the ids), rtsp://... (a camera),
    /// http://... (a stream), synthetic (a made-up cat), synthetic:silence (room noise alone), or wav:PATH (a WAV file,
    /// or a folder of them)
    #[arg(long, value_name = "SOURCE")]
    #[serde(serialize_with = "as_text")]
    #[schemars(with = "String")]
    pub source: SourceSpec,

    /// Seed of the synthetic source; the same seed gives the same samples
    #[arg(long, value_name = "N")]
    pub seed: u64,

    /// Play a recording once instead of in a loop
    #[arg(long = "once")]
    pub wav_once: bool,

    /// Channel to listen to: mix (the mean of all), left, right, or a number from 1. For a card on which only one input
    /// is connected
    #[arg(long, value_name = "CHANNEL")]
    #[schemars(with = "String")]
    pub channel: Channel,

    /// Amplification, in dB
    #[arg(long, value_name = "DB", allow_negative_numbers = true)]
    #[schemars(range(min = *GAIN_DB.start(), max = *GAIN_DB.end()))]
    pub gain_db: f32,

    /// Report the microphone as silent after this many seconds of samples that are exactly zero
    #[arg(long, value_name = "S")]
    #[schemars(range(min = *SILENT_AFTER_S.start(), max = *SILENT_AFTER_S.end()))]
    pub silent_after_s: u64,

    /// Memory for the tape, in bytes of plain samples: a second takes 32000, so the default is ten minutes
    #[arg(long, value_name = "BYTES")]
    #[schemars(range(min = *TAPE_BYTES.start(), max = *TAPE_BYTES.end()))]
    pub tape_bytes: u64,

    /// Folder on disk where the tape continues when its memory is full [default: none, the tape stays in memory]. Use a
    /// folder for this alone: the node deletes files in it
    #[arg(long, value_name = "DIR")]
    #[schemars(length(min = 1))]
    pub spill_dir: Option<PathBuf>,

    /// Disk space for the tape in that folder, in bytes: a second of a quiet room takes about 12000
    #[arg(long, value_name = "BYTES")]
    #[schemars(range(min = *SPILL_BYTES.start(), max = *SPILL_BYTES.end()))]
    pub spill_bytes: u64,

    /// Folder for the key that the node's id is made from [default: the one that systemd gives in STATE_DIRECTORY;
    /// without it the node has no id, and hubs know it by its URL]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// A secret that the hub has in its config too: both pair by it without a code, until the node is paired. 16 to 128
    /// characters
    #[arg(skip)]
    pub pairing_secret: Option<Secret>,

    /// Announce this node by mDNS (_cat-node._tcp), so that hubs find it; only when it listens beyond loopback
    #[arg(long)]
    pub announce: bool,

    /// Serve other machines without TLS too, where traffic is unencrypted and clients are not authenticated. Hubs that
    /// are paired (`cat-node pair`) do not need it
    #[arg(long)]
    pub insecure: bool,

    /// Give the sound to whoever may call this node. Without, paired hubs alone get it: programs of this machine do
    /// not, nor do others with --insecure
    #[arg(long)]
    pub listen_live: bool,

    /// Format of the log
    #[arg(long, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            owner: OwnerUrl::default(),
            owner_timeout_ms: 2_000,
            cat: String::new(),
            // A node is a microphone. One that was built without never makes up a cat unasked.
            source: SourceSpec::Microphone { id: None },
            seed: DEFAULT_SEED,
            wav_once: false,
            channel: Channel::Mix,
            gain_db: 0.0,
            silent_after_s: 10,
            tape_bytes: DEFAULT_TAPE_BYTES,
            spill_dir: None,
            spill_bytes: DEFAULT_SPILL_BYTES,
            state_dir: None,
            pairing_secret: None,
            announce: true,
            insecure: false,
            listen_live: true,
            log_format: LogFormat::default(),
        }
    }
}

impl Settings for NodeSettings {
    const PROGRAM: &'static str = "cat-node";
    const PREFIX: &'static str = "MEOWLINK_NODE_";
    const OLD_PREFIX: &'static str = "CAT_NODE_";

    fn check(&self, _: &Variables) -> Result<(), ConfigError> {
        if let Some(secret) = &self.pairing_secret {
            PairingSecret::new(secret).map_err(|why| ConfigError::value("pairing_secret", why))?;
        }
        check_source(&self.source)
    }

    fn check_start(&self, variables: &Variables) -> Result<(), ConfigError> {
        let has_key = self.state_dir.is_some() || systemd::state_folder(variables).is_some();
        match self.addresses().beyond_loopback() {
            // With a key, whoever comes from another machine needs TLS and a pairing.
            Some(address) if !has_key && !self.insecure => {
                let why = format!(
                    "{address} is not a loopback address: traffic from other machines is encrypted, and the key for that \
                     needs a folder. Set state_dir (--state-dir), or listen on loopback, or serve without TLS (--insecure)"
                );
                Err(ConfigError::value("listen", why))
            }
            _ => Ok(()),
        }
    }

    fn derived(&self, variables: &Variables) -> Vec<Derived> {
        let folder = systemd::state_folder(variables).filter(|_| self.state_dir.is_none()).map(|folder| Derived {
            key: "state_dir",
            value: folder.to_string_lossy().into(),
            from: format!("the variable {}", systemd::STATE_VARIABLE),
        });
        self.addresses().derived("listen").into_iter().chain(folder).collect()
    }
}

impl NodeSettings {
    /// Where the node listens.
    pub fn addresses(&self) -> Listen {
        Listen::given_or_loopback(&self.listen, DEFAULT_PORT)
    }

    /// Where the node's key is. `None`: it has none.
    pub fn state_folder(&self) -> Option<PathBuf> {
        self.state_dir.clone().or_else(|| systemd::state_folder(&Variables::of_process()))
    }

    /// How long a caller waits for the owner.
    pub fn owner_timeout(&self) -> Duration {
        Duration::from_millis(self.owner_timeout_ms)
    }

    /// What to hear from, with the seed or the end that belong to it.
    pub fn audio_source(&self) -> SourceSpec {
        self.source.clone().with_seed(self.seed).with_once(self.wav_once)
    }

    /// How to hear.
    pub fn capture(&self) -> CaptureSettings {
        let silent_after = Duration::from_secs(self.silent_after_s);
        CaptureSettings { channel: self.channel, gain_db: self.gain_db, silent_after }
    }

    /// Where the tape goes on when its memory is full. `None`: nowhere.
    pub fn spill(&self) -> Option<SpillConfig> {
        self.spill_dir.clone().map(|dir| SpillConfig { dir, bytes: self.spill_bytes })
    }
}

/// The settings that say what to hear from, and how: those of `cat-node record`.
#[derive(Debug, Clone, Copy)]
pub enum SourceFlags {}

impl Selection for SourceFlags {
    fn includes(key: &str) -> bool {
        ["source", "seed", "wav_once", "channel", "gain_db", "silent_after_s"].contains(&key)
    }
}

/// The setting that says where the node's key is: that of `cat-node identity`.
#[derive(Debug, Clone, Copy)]
pub enum StateFlags {}

impl Selection for StateFlags {
    fn includes(key: &str) -> bool {
        key == "state_dir"
    }
}

/// Where the owner is: `http://HOST[:PORT]`. Wherever it is shown, `***` stands for a password in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct OwnerUrl(HttpUrl);

impl OwnerUrl {
    /// The URL with its password, for the code that connects to it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl Default for OwnerUrl {
    fn default() -> Self {
        Self(HttpUrl::localhost(DEFAULT_OWNER_PORT))
    }
}

impl FromStr for OwnerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri = daemon::url::parse(text)?;
        let shown = mask_url(text);
        match (uri.scheme_str(), uri.path()) {
            (Some("http"), "" | "/") => text.parse().map(Self),
            (Some("https"), _) => Err(format!("\"{shown}\": https is not supported; give an http:// URL")),
            _ => Err(format!("\"{shown}\" is not of the form http://HOST:PORT")),
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
        self.0.fmt(out)
    }
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
    use daemon::config::{Flags, Key, keys, schema};
    use daemon::develop::validate;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags<NodeSettings>,
    }

    /// The settings without the environment of the machine that runs the tests.
    fn resolve(line: &[&str]) -> Result<NodeSettings, ConfigError> {
        let line = std::iter::once("cat-node").chain(line.iter().copied());
        let flags = <Line as clap::Parser>::try_parse_from(line).unwrap().flags;
        flags.settings_to_start_with(&Variables::default())
    }

    fn resolve_file(text: &str, line: &[&str]) -> Result<NodeSettings, ConfigError> {
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        resolve(&[&["--config", file.path().to_str().unwrap()], line].concat())
    }

    #[test]
    fn nothing_given_means_the_defaults() {
        assert_eq!(
            resolve(&["--source", "synthetic"]).unwrap(),
            NodeSettings {
                source: SourceSpec::Synthetic { seed: DEFAULT_SEED, vocalisations: true },
                ..Default::default()
            }
        );
        assert_eq!(NodeSettings::default().tape_bytes, 19_200_000);
    }

    #[test]
    fn the_example_file_says_what_the_defaults_are() {
        let example = include_str!("../../systemd/cat-node.toml");
        let line = ["--source", "synthetic", "--state-dir", "/s"];
        // What the package sets: all addresses, and nothing else. The program itself begins with loopback.
        let listen = vec!["0.0.0.0:50056".parse().unwrap(), "[::]:50056".parse().unwrap()];
        let source = SourceSpec::Synthetic { seed: DEFAULT_SEED, vocalisations: true };
        let state_dir = Some("/s".into());
        let packaged = NodeSettings { listen, source, state_dir, ..Default::default() };
        assert_eq!(resolve_file(example, &line).unwrap(), packaged);
        assert_eq!(NodeSettings::default().addresses(), Listen::Loopback(DEFAULT_PORT));
        // With every setting uncommented it still parses, and each is the default.
        let settings: String = example
            .lines()
            .filter(|line| line.split_once(" = ").is_some_and(|(key, _)| !key.trim_start_matches("# ").contains(' ')))
            .map(|line| format!("{}\n", line.trim_start_matches("# ")))
            .collect();
        let config = resolve_file(&settings, &line).unwrap();
        assert_eq!(config, packaged);
        // It has every key but those without a default, and the schema agrees.
        let example: toml::Table = toml::from_str(&settings).unwrap();
        for key in keys::<NodeSettings>()
            .iter()
            .map(Key::dotted)
            .filter(|key| !["pairing_secret", "spill_dir", "state_dir"].contains(&key.as_str()))
        {
            assert!(example.contains_key(&key), "{key} is missing");
        }
        let config = serde_json::to_value(&example).unwrap();
        assert_eq!(validate(&schema::<NodeSettings>(), &config), Ok(()));
    }

    #[test]
    fn schema_knows_the_ranges_that_are_checked() {
        let schema = schema::<NodeSettings>();
        for (key, beyond) in [
            ("owner_timeout_ms", serde_json::json!(60_001)),
            ("gain_db", serde_json::json!(-60.1)),
            ("silent_after_s", serde_json::json!(0)),
            ("tape_bytes", serde_json::json!(31_999)),
            ("spill_bytes", serde_json::json!(1 << 19)),
        ] {
            let text = format!("{key} = {beyond}\nsource = \"synthetic\"");
            assert!(resolve_file(&text, &[]).is_err(), "{text}");
            let error = validate(&schema, &serde_json::json!({ key: beyond })).unwrap_err();
            assert!(error.contains("imum"), "{error}");
        }
    }

    #[test]
    fn flags_lie_over_the_file() {
        let file = "owner = \"http://a:1\"\ncat = \"Tom\"\nseed = 5\nsource = \"synthetic\"\ngain_db = 3.5\n";
        let config = resolve_file(file, &["--owner", "http://b:2"]).unwrap();
        assert_eq!(config.owner.to_string(), "http://b:2");
        assert_eq!((config.cat.as_str(), config.capture().gain_db), ("Tom", 3.5));
        assert_eq!(config.audio_source(), SourceSpec::Synthetic { seed: 5, vocalisations: true });
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
    fn values_that_make_no_sense_name_the_flag_or_file_and_key() {
        for line in [
            ["--tape-bytes", "31999"],
            ["--tape-bytes", "1073741825"],
            ["--spill-bytes", "1048575"],
            ["--owner-timeout-ms", "0"],
            ["--gain-db", "-61"],
            ["--gain-db", "NaN"],
            ["--silent-after-s", "0"],
            ["--listen", "0.0.0.0:1"],
        ] {
            let error = resolve(&[&["--source", "synthetic"], &line[..]].concat()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: ", line[0])), "{error}");
        }
        let error = resolve_file("source = \"synthetic\"\ntape_bytes = 5", &[]).unwrap_err().to_string();
        assert!(error.contains(".toml: line 2: tape_bytes: 5 is not between 32000 and "), "{error}");
    }

    #[test]
    fn pairing_secret_has_a_length_and_no_error_shows_it() {
        let secret = |text: &str| resolve_file(&format!("source = \"synthetic\"\npairing_secret = {text}"), &[]);
        assert!(secret("\"sixteen letters!\"").unwrap().pairing_secret.is_some());
        for bad in ["\"fifteen letters\"", "7654321"] {
            let error = secret(bad).unwrap_err().to_string();
            assert!(
                error.contains("pairing_secret") && !error.contains("fifteen") && !error.contains("765"),
                "{error}"
            );
        }
    }

    #[test]
    fn seed_may_be_any_number_of_64_bits() {
        let config = resolve(&["--source", "synthetic", "--seed", "18446744073709551615"]).unwrap();
        assert_eq!(config.audio_source(), SourceSpec::Synthetic { seed: u64::MAX, vocalisations: true });
    }

    #[test]
    fn tape_goes_to_disk_only_when_told_where() {
        assert_eq!(resolve_file("spill_bytes = 2000000\nsource = \"synthetic\"", &[]).unwrap().spill(), None);
        let config = resolve_file("spill_dir = \"/var/lib/cat-node/tape\"\nsource = \"synthetic\"", &[]).unwrap();
        let spill = SpillConfig { dir: "/var/lib/cat-node/tape".into(), bytes: DEFAULT_SPILL_BYTES };
        assert_eq!(config.spill(), Some(spill));
    }

    #[test]
    fn other_addresses_need_a_key_or_insecure_to_serve_and_nothing_to_be_shown() {
        let line = ["--source", "synthetic", "--listen", "0.0.0.0:1"];
        for more in [&["--insecure"][..], &["--state-dir", "/s"]] {
            assert!(resolve(&[&line[..], more].concat()).is_ok(), "{more:?}");
        }
        let error = resolve(&[&line[..], &["--insecure=false"]].concat()).unwrap_err().to_string();
        assert!(error.contains("--state-dir"), "{error}");
        // Others than the service read its file too: `cat-node config show`, `cat-node record`.
        let flags = <Line as clap::Parser>::try_parse_from([&["cat-node"], &line[..]].concat()).unwrap().flags;
        assert!(flags.settings_with(&Variables::default()).is_ok());
    }

    #[test]
    fn owner_urls_are_checked() {
        for url in ["http://localhost:50051", "http://[::1]:50051/", "http://owner"] {
            assert!(url.parse::<OwnerUrl>().is_ok(), "{url}");
        }
        for url in ["localhost:50051", "https://x:1", "http://", "http://x/path", "", "http://x y", "http://x:99999"] {
            let error = url.parse::<OwnerUrl>().unwrap_err();
            assert!(error.contains(&format!("\"{url}\"")), "{error}");
        }
    }

    #[cfg(feature = "microphone")]
    #[test]
    fn the_number_of_a_card_is_no_id() {
        let error = resolve(&["--source", "microphone:1"]).unwrap_err().to_string();
        assert!(error.starts_with("--source: ") && error.contains("boot"), "{error}");
    }
}
