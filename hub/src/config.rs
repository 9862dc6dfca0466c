//! What a hub does, from four layers: flags over environment variables over the TOML file over defaults.

use std::net::SocketAddr;
use std::path::PathBuf;

use daemon::config::ConfigError;
use daemon::listen::Listen;
use daemon::logs::LogFormat;
use hub_base::role::Role;
use hub_gateway::PageConfig;
use hub_listen::{EventsConfig, ListenConfig};
use hub_nodes::MAX_NODES;
use hub_nodes::address::{NodeConfig, Url};
use hub_owner::config::{MqttConfig, NotificationsConfig, OwnerConfig};
use hub_store::clips::ClipsConfig;
use hub_watch::condition::HealthConfig;
use serde::Deserialize;
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

/// One layer: what was said there, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Layer {
    /// Addresses of the HTTP gateway.
    pub http: Option<Vec<SocketAddr>>,
    /// Addresses of the Owner service.
    pub owner: Option<Vec<SocketAddr>>,
    /// Addresses of the dog service.
    pub dog: Option<Vec<SocketAddr>>,
    /// Addresses of the catAnalysis service.
    pub analysis: Option<Vec<SocketAddr>>,
    /// The cat-nodes.
    pub node: Option<Vec<NodeConfig>>,
    /// Whether to look for more cat-nodes by mDNS.
    pub discover: Option<bool>,
    /// Where the database is.
    pub data_dir: Option<PathBuf>,
    /// The roles of this process.
    pub only: Option<Vec<Role>>,
    /// The Owner service when this process does not have it.
    pub owner_url: Option<Url>,
    /// The dog service when this process does not have it.
    pub dog_url: Option<Url>,
    /// The catAnalysis service when this process does not have it.
    pub analysis_url: Option<Url>,
    /// Analyses that may run at once.
    pub max_analyses: Option<usize>,
    /// Whether to listen on addresses other than loopback.
    pub insecure: Option<bool>,
    /// How a line of the log looks.
    pub log_format: Option<LogFormat>,
    /// Listening to the nodes all the time.
    pub listen: Option<ListenConfig>,
    /// Clips of what was heard.
    pub clips: Option<ClipsConfig>,
    /// What counts as a cat event.
    pub detector: Option<DetectorConfig>,
    /// How long events are kept.
    pub events: Option<EventsConfig>,
    /// Who is told.
    pub owners: Option<Vec<OwnerConfig>>,
    /// How long it is tried to tell them.
    pub notices: Option<NotificationsConfig>,
    /// The broker, for owners and for Home Assistant.
    pub mqtt: Option<MqttConfig>,
    /// The web page.
    pub page: Option<PageConfig>,
    /// When a node counts as deaf.
    pub health: Option<HealthConfig>,
}

impl Layer {
    /// This layer over another: what is said here counts.
    pub fn over(self, lower: Self) -> Self {
        Self {
            http: self.http.or(lower.http),
            owner: self.owner.or(lower.owner),
            dog: self.dog.or(lower.dog),
            analysis: self.analysis.or(lower.analysis),
            node: self.node.or(lower.node),
            discover: self.discover.or(lower.discover),
            data_dir: self.data_dir.or(lower.data_dir),
            only: self.only.or(lower.only),
            owner_url: self.owner_url.or(lower.owner_url),
            dog_url: self.dog_url.or(lower.dog_url),
            analysis_url: self.analysis_url.or(lower.analysis_url),
            max_analyses: self.max_analyses.or(lower.max_analyses),
            insecure: self.insecure.or(lower.insecure),
            log_format: self.log_format.or(lower.log_format),
            listen: self.listen.or(lower.listen),
            clips: self.clips.or(lower.clips),
            detector: self.detector.or(lower.detector),
            events: self.events.or(lower.events),
            owners: self.owners.or(lower.owners),
            notices: self.notices.or(lower.notices),
            mqtt: self.mqtt.or(lower.mqtt),
            page: self.page.or(lower.page),
            health: self.health.or(lower.health),
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
    /// What counts as a cat event, live and in analyses.
    pub detector: DetectorConfig,
    /// How long events are kept.
    pub events: EventsConfig,
    /// Who is told. Empty: nobody.
    pub owners: Vec<OwnerConfig>,
    /// How long it is tried to tell them.
    pub notices: NotificationsConfig,
    /// The broker, for owners and for Home Assistant. `None`: there is none.
    pub mqtt: Option<MqttConfig>,
    /// The web page.
    pub page: PageConfig,
    /// When a node counts as deaf.
    pub health: HealthConfig,
}

impl Config {
    /// Fills what no layer says with defaults, and checks it all.
    ///
    /// # Errors
    /// Names the key and what is wrong with it.
    pub fn new(layer: Layer) -> Result<Self, ConfigError> {
        let insecure = layer.insecure.unwrap_or(false);
        let listen = |key: &str, given: Option<Vec<SocketAddr>>, default_port: u16| {
            let listen = Listen::given_or_loopback(&given.unwrap_or_default(), default_port);
            listen.check(key, insecure).map(|()| listen)
        };
        let mut roles = layer.only.unwrap_or_else(|| Role::ALL.to_vec());
        if roles.is_empty() {
            return Err(ConfigError::value("only", "names no role; leave it out for all of them"));
        }
        let mut seen = std::collections::HashSet::new();
        roles.retain(|role| seen.insert(*role));
        let nodes = match layer.node {
            None => vec![NodeConfig { cat: None, url: localhost(port::NODE) }],
            Some(nodes) if nodes.is_empty() => return Err(ConfigError::value("node", "names no node")),
            Some(nodes) if nodes.len() > MAX_NODES => {
                let why = format!("names {} nodes; a hub listens to {MAX_NODES} at most", nodes.len());
                return Err(ConfigError::value("node", why));
            }
            Some(nodes) => nodes,
        };
        let mut cats = std::collections::HashSet::new();
        if let Some(twice) = nodes.iter().filter_map(|node| node.cat.as_deref()).find(|cat| !cats.insert(*cat)) {
            return Err(ConfigError::value("node", format!("two nodes are configured for {twice:?}")));
        }
        let max_analyses = layer.max_analyses.unwrap_or(DEFAULT_MAX_ANALYSES);
        if !(1..=MOST_ANALYSES).contains(&max_analyses) {
            let why = format!("{max_analyses} is not within 1 to {MOST_ANALYSES}");
            return Err(ConfigError::value("max_analyses", why));
        }
        let (listening, clips) = (layer.listen.unwrap_or_default(), layer.clips.unwrap_or_default());
        listening.check()?;
        clips.check()?;
        let (owners, notices) = (layer.owners.unwrap_or_default(), layer.notices.unwrap_or_default());
        hub_owner::config::check(&owners, &notices, layer.mqtt.as_ref())?;
        let detector = layer.detector.unwrap_or_default();
        detector.check().map_err(|why| ConfigError::value(format!("detector.{}", why.key), why.to_string()))?;
        let health = layer.health.unwrap_or_default();
        health.check()?;
        let page = layer.page.unwrap_or_default();
        page.check()?;
        let url = |given: Option<Url>, default_port| given.map_or_else(|| localhost(default_port), |url| url.0);
        Ok(Self {
            roles,
            http: listen("http", layer.http, port::HTTP)?,
            owner: listen("owner", layer.owner, port::OWNER)?,
            dog: listen("dog", layer.dog, port::DOG)?,
            analysis: listen("analysis", layer.analysis, port::ANALYSIS)?,
            nodes,
            discover: layer.discover.unwrap_or(true),
            data_dir: layer.data_dir.map_or_else(default_data_dir, Ok)?,
            owner_url: url(layer.owner_url, port::OWNER),
            dog_url: url(layer.dog_url, port::DOG),
            analysis_url: url(layer.analysis_url, port::ANALYSIS),
            max_analyses,
            log_format: layer.log_format.unwrap_or_default(),
            listen: listening,
            clips,
            detector,
            events: layer.events.unwrap_or_default(),
            owners,
            notices,
            mqtt: layer.mqtt,
            page,
            health,
        })
    }

    /// Whether this process has a role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

/// Analyses that may be configured to run at once.
const MOST_ANALYSES: usize = 1000;

fn localhost(port: u16) -> String {
    format!("http://localhost:{port}")
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
        let mut layer: Layer = toml::from_str(toml).unwrap();
        layer.data_dir.get_or_insert_with(|| "/somewhere".into());
        Config::new(layer)
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
    fn upper_layer_counts() {
        let lower: Layer = toml::from_str("max_analyses = 1\nonly = [\"dog\"]").unwrap();
        let upper: Layer = toml::from_str("max_analyses = 2").unwrap();
        let both = upper.over(lower);
        assert_eq!((both.max_analyses, both.only), (Some(2), Some(vec![Role::Dog])));
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
        let error = toml::from_str::<Layer>("htpp = []").unwrap_err().to_string();
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
