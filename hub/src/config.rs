//! The settings of a hub, and the config that its parts take.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;
use daemon::config::{ConfigError, Flags, Loaded, Selection, Settings, Variables};
use daemon::listen::Listen;
use daemon::logs::LogFormat;
use hub_base::role::Role;
use hub_gateway::PageConfig;
use hub_listen::{EventsConfig, ListenConfig};
use hub_nodes::MAX_NODES;
use hub_nodes::address::{NodeConfig, Url};
use hub_owner::config::{MqttConfig, NotificationsConfig, OwnerConfig};
use hub_store::backup::BackupConfig;
use hub_store::clips::ClipsConfig;
use hub_watch::condition::HealthConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sound::detector::DetectorConfig;

/// Default ports, those of the original system.
pub mod port {
    /// Owner.
    pub const OWNER: u16 = 50051;
    /// dog.
    pub const DOG: u16 = 50055;
    /// The cat-node, which is not part of the hub.
    pub const NODE: u16 = 50056;
    /// catAnalysis.
    pub const ANALYSIS: u16 = 50057;
    /// The HTTP gateway.
    pub const HTTP: u16 = 5000;
}

/// Analyses that may run at once when nothing else is configured. Each keeps a connection's stream and a thread's work.
pub const DEFAULT_MAX_ANALYSES: usize = 16;

/// How many analyses may be configured to run at the same time.
pub const MAX_ANALYSES: RangeInclusive<usize> = 1..=1000;

// The comments of the fields are the help of the flags, and the descriptions in the schema.
/// Settings of a hub.
#[derive(Debug, Clone, PartialEq, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HubSettings {
    /// Address and port of the HTTP gateway; may be given several times (without: port 5000 on 127.0.0.1 and ::1)
    #[arg(long, value_name = "ADDR:PORT")]
    pub http: Vec<SocketAddr>,

    /// Address and port of the Owner service; may be given several times (without: port 50051 on 127.0.0.1 and ::1)
    #[arg(long, value_name = "ADDR:PORT")]
    pub owner: Vec<SocketAddr>,

    /// Address and port of the dog service; may be given several times (without: port 50055 on 127.0.0.1 and ::1)
    #[arg(long, value_name = "ADDR:PORT")]
    pub dog: Vec<SocketAddr>,

    /// Address and port of the catAnalysis service; may be given several times (without: port 50057 on 127.0.0.1 and
    /// ::1)
    #[arg(long, value_name = "ADDR:PORT")]
    pub analysis: Vec<SocketAddr>,

    /// A cat-node and the cat it hears; may be given several times. Without NAME= the node is asked for its cat. Names
    /// that no node claims go to the first node
    #[arg(long, value_name = "NAME=URL")]
    pub node: Vec<NodeConfig>,

    /// Look for more cat-nodes on the local network, by mDNS
    #[arg(long)]
    pub discover: bool,

    /// Folder of the database and the clips (without: $STATE_DIRECTORY, else ~/.local/share/meowlink)
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// The roles of this process; the others run elsewhere
    #[arg(long, value_name = "ROLES")]
    pub only: Vec<Role>,

    /// The Owner service, when another process has that role
    #[arg(long, value_name = "URL")]
    pub owner_url: Url,

    /// The dog service, when another process has that role
    #[arg(long, value_name = "URL")]
    pub dog_url: Url,

    /// The catAnalysis service, when another process has that role
    #[arg(long, value_name = "URL")]
    pub analysis_url: Url,

    /// How many analyses may run at the same time
    #[arg(long, value_name = "N")]
    #[schemars(range(min = *MAX_ANALYSES.start(), max = *MAX_ANALYSES.end()))]
    pub max_analyses: usize,

    /// Allow addresses other than loopback, where traffic is unencrypted and clients are not authenticated
    #[arg(long)]
    pub insecure: bool,

    /// Format of the log
    #[arg(long, value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Listening to the nodes all the time.
    #[arg(skip)]
    pub listen: ListenConfig,

    /// Clips of what was heard.
    #[arg(skip)]
    pub clips: ClipsConfig,

    /// Backups.
    #[arg(skip)]
    pub backup: BackupConfig,

    /// What counts as a cat event, live and in analyses.
    #[arg(skip)]
    pub detector: DetectorConfig,

    /// How long events are kept.
    #[arg(skip)]
    pub events: EventsConfig,

    /// Who is notified.
    #[arg(skip)]
    pub owners: Vec<OwnerConfig>,

    /// How notifications are delivered.
    #[arg(skip)]
    pub notices: NotificationsConfig,

    /// The broker, for owners and for Home Assistant. Without: none.
    #[arg(skip)]
    pub mqtt: Option<MqttConfig>,

    /// The web page.
    #[arg(skip)]
    pub page: PageConfig,

    /// When a node counts as deaf.
    #[arg(skip)]
    pub health: HealthConfig,
}

impl Default for HubSettings {
    fn default() -> Self {
        let localhost = |port| Url(format!("http://localhost:{port}"));
        Self {
            http: Vec::new(),
            owner: Vec::new(),
            dog: Vec::new(),
            analysis: Vec::new(),
            node: vec![NodeConfig { cat: None, url: localhost(port::NODE).0 }],
            discover: true,
            data_dir: None,
            only: Role::ALL.to_vec(),
            owner_url: localhost(port::OWNER),
            dog_url: localhost(port::DOG),
            analysis_url: localhost(port::ANALYSIS),
            max_analyses: DEFAULT_MAX_ANALYSES,
            insecure: false,
            log_format: LogFormat::default(),
            listen: ListenConfig::default(),
            clips: ClipsConfig::default(),
            backup: BackupConfig::default(),
            detector: DetectorConfig::default(),
            events: EventsConfig::default(),
            owners: Vec::new(),
            notices: NotificationsConfig::default(),
            mqtt: None,
            page: PageConfig::default(),
            health: HealthConfig::default(),
        }
    }
}

impl Settings for HubSettings {
    const PROGRAM: &'static str = "hub";
    const PREFIX: &'static str = "MEOWLINK_HUB_";
    const OLD_PREFIX: &'static str = "HUB_";
}

impl HubSettings {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// Names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let addresses = [
            ("http", &self.http, port::HTTP),
            ("owner", &self.owner, port::OWNER),
            ("dog", &self.dog, port::DOG),
            ("analysis", &self.analysis, port::ANALYSIS),
        ];
        for (key, given, default_port) in addresses {
            Listen::given_or_loopback(given, default_port).check(key, self.insecure)?;
        }
        if self.only.is_empty() {
            return Err(ConfigError::value("only", "names no role; leave it out for all of them"));
        }
        self.check_nodes()?;
        if !MAX_ANALYSES.contains(&self.max_analyses) {
            let (least, most) = (MAX_ANALYSES.start(), MAX_ANALYSES.end());
            let why = format!("{} is not within {least} to {most}", self.max_analyses);
            return Err(ConfigError::value("max_analyses", why));
        }
        self.listen.check()?;
        self.clips.check()?;
        self.backup.check()?;
        hub_owner::config::check(&self.owners, &self.notices, self.mqtt.as_ref())?;
        self.detector.check().map_err(|why| ConfigError::value(format!("detector.{}", why.key), why.to_string()))?;
        self.health.check()?;
        self.page.check()
    }

    fn check_nodes(&self) -> Result<(), ConfigError> {
        if self.node.is_empty() {
            return Err(ConfigError::value("node", "names no node"));
        }
        if self.node.len() > MAX_NODES {
            let why = format!("names {} nodes; a hub listens to at most {MAX_NODES}", self.node.len());
            return Err(ConfigError::value("node", why));
        }
        let mut cats = HashSet::new();
        let twice = self.node.iter().filter_map(|node| node.cat.as_deref()).find(|cat| !cats.insert(*cat));
        match twice {
            Some(cat) => Err(ConfigError::value("node", format!("two nodes are configured for {cat:?}"))),
            None => Ok(()),
        }
    }
}

/// What a hub does.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The roles of this process, each once.
    pub roles: Vec<Role>,
    /// Where the HTTP gateway listens.
    pub http: Listen,
    /// Where the Owner service listens.
    pub owner: Listen,
    /// Where the dog service listens.
    pub dog: Listen,
    /// Where the catAnalysis service listens.
    pub analysis: Listen,
    /// The cat-nodes, one or more.
    pub nodes: Vec<NodeConfig>,
    /// Whether to look for more cat-nodes by mDNS.
    pub discover: bool,
    /// Where the database is.
    pub data_dir: PathBuf,
    /// The Owner service when this process does not have it.
    pub owner_url: String,
    /// The dog service when this process does not have it.
    pub dog_url: String,
    /// The catAnalysis service when this process does not have it.
    pub analysis_url: String,
    /// Analyses that may run at once, 1 or more.
    pub max_analyses: usize,
    /// How a line of the log looks.
    pub log_format: LogFormat,
    /// Listening to the nodes all the time.
    pub listen: ListenConfig,
    /// Clips of what was heard.
    pub clips: ClipsConfig,
    /// Backups.
    pub backup: BackupConfig,
    /// What counts as a cat event, live and in analyses.
    pub detector: DetectorConfig,
    /// How long events are kept.
    pub events: EventsConfig,
    /// Who is notified. Empty: no owner.
    pub owners: Vec<OwnerConfig>,
    /// How notifications are delivered.
    pub notices: NotificationsConfig,
    /// The broker, for owners and for Home Assistant. `None`: there is none.
    pub mqtt: Option<MqttConfig>,
    /// The web page.
    pub page: PageConfig,
    /// When a node counts as deaf.
    pub health: HealthConfig,
}

impl Config {
    /// The config of all layers, checked.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn load<P: Selection>(flags: &Flags<HubSettings, P>) -> Result<Self, ConfigError> {
        Self::load_with(flags, &Variables::of_process())
    }

    /// The same with other environment variables than those of the process.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn load_with<P: Selection>(flags: &Flags<HubSettings, P>, variables: &Variables) -> Result<Self, ConfigError> {
        Self::checked(&flags.load_with(variables)?)
    }

    fn checked(loaded: &Loaded<HubSettings>) -> Result<Self, ConfigError> {
        loaded.checked(Self::new(loaded.settings.clone()))
    }

    /// The config of settings, checked.
    ///
    /// # Errors
    /// Names the key that makes no sense.
    pub fn new(settings: HubSettings) -> Result<Self, ConfigError> {
        settings.check()?;
        let listen = |given: &[SocketAddr], default_port| Listen::given_or_loopback(given, default_port);
        let mut seen = HashSet::new();
        let roles = settings.only.into_iter().filter(|role| seen.insert(*role)).collect();
        Ok(Self {
            roles,
            http: listen(&settings.http, port::HTTP),
            owner: listen(&settings.owner, port::OWNER),
            dog: listen(&settings.dog, port::DOG),
            analysis: listen(&settings.analysis, port::ANALYSIS),
            nodes: settings.node,
            discover: settings.discover,
            data_dir: settings.data_dir.map_or_else(default_data_dir, Ok)?,
            owner_url: settings.owner_url.0,
            dog_url: settings.dog_url.0,
            analysis_url: settings.analysis_url.0,
            max_analyses: settings.max_analyses,
            log_format: settings.log_format,
            listen: settings.listen,
            clips: settings.clips,
            backup: settings.backup,
            detector: settings.detector,
            events: settings.events,
            owners: settings.owners,
            notices: settings.notices,
            mqtt: settings.mqtt,
            page: settings.page,
            health: settings.health,
        })
    }

    /// Whether this process has a role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// systemd's `$STATE_DIRECTORY`, else the user's data directory by the XDG rules.
fn default_data_dir() -> Result<PathBuf, ConfigError> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // Several are separated by colons; ours is the first.
    let state = std::env::var("STATE_DIRECTORY").ok().and_then(|list| list.split(':').next().map(PathBuf::from));
    state
        .filter(|path| path.is_absolute())
        .or_else(|| absolute("XDG_DATA_HOME").map(|home| home.join("meowlink")))
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share/meowlink")))
        .ok_or_else(|| ConfigError::value("data_dir", "is not given, and neither STATE_DIRECTORY nor HOME is set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(toml: &str) -> Result<Config, ConfigError> {
        let mut settings: HubSettings = toml::from_str(toml).unwrap();
        settings.data_dir.get_or_insert_with(|| "/somewhere".into());
        Config::new(settings)
    }

    #[test]
    fn defaults_are_those_of_the_original() {
        let config = config("").unwrap();
        assert_eq!(config.roles, Role::ALL);
        assert_eq!(config.http, Listen::Loopback(5000));
        assert_eq!(config.owner, Listen::Loopback(50051));
        assert_eq!(config.dog, Listen::Loopback(50055));
        assert_eq!(config.analysis, Listen::Loopback(50057));
        assert_eq!(config.nodes, ["http://localhost:50056".parse().unwrap()]);
        assert!(config.discover);
    }

    #[test]
    fn nodes_are_looked_for_unless_told_not_to() {
        assert!(!config("discover = false").unwrap().discover);
        assert!(config("node = [\"http://a:1\"]").unwrap().discover);
    }

    #[test]
    fn more_nodes_than_a_hub_listens_to_are_refused() {
        let nodes = |count| format!("node = {:?}", vec!["http://a:1"; count]);
        assert!(config(&nodes(MAX_NODES)).is_ok());
        let error = config(&nodes(MAX_NODES + 1)).unwrap_err().to_string();
        assert!(error.starts_with("node: ") && error.contains("65"), "{error}");
    }

    #[test]
    fn unknown_keys_are_errors() {
        let error = toml::from_str::<HubSettings>("htpp = []").unwrap_err().to_string();
        assert!(error.contains("htpp"), "{error}");
    }

    #[test]
    fn what_makes_no_sense_names_its_key() {
        for (toml, key) in [
            ("only = []", "only: "),
            ("node = []", "node: "),
            ("node = [\"Tom=http://a:1\", \"Tom=http://b:1\"]", "node: "),
            ("max_analyses = 0", "max_analyses: "),
            ("[listen]\nframe_ms = 30", "listen.frame_ms: "),
            ("[listen]\nthreads = 65", "listen.threads: "),
            ("[listen]\nmax_lag_s = 0", "listen.max_lag_s: "),
            ("[clips]\npre_roll_ms = 2001", "clips.pre_roll_ms: "),
            ("[backup]\nkeep = 0", "backup.keep: "),
            ("[backup]\nto = \"backups\"", "backup.to: "),
            ("[detector]\non_probability = 1.0", "detector.on_probability: 1 is not"),
            ("[detector]\noff_probability = 0.6", "detector.off_probability: 0.6 is not within 0.01 to 0.5"),
            ("[detector]\nmax_ms = 60000", "detector.max_ms: "),
            ("[detector]\nmin_score = nan", "detector.min_score: "),
            ("[health]\nno_sound_after_h = 0", "health.no_sound_after_h: "),
            ("[page]\nhosts = [\"hub.example.org:80\"]", "page.hosts: "),
            ("http = [\"0.0.0.0:5000\"]", "http: 0.0.0.0:5000"),
        ] {
            let error = config(toml).unwrap_err().to_string();
            assert!(error.starts_with(key), "{toml}: {error}");
        }
    }
}
