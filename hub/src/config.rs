//! The settings of a hub.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::Args;
use daemon::config::{ConfigError, Derived, Secret, Settings, Variables};
use daemon::listen::Listen;
use daemon::logs::LogFormat;
use daemon::pairing::PairingSecret;
use daemon::systemd::{self, STATE_VARIABLE as STATE};
use daemon::url::HttpUrl;
use hub_base::role::Role;
use hub_control::place;
use hub_gateway::{GatewayConfig, PageConfig};
use hub_listen::{EventsConfig, ListenConfig};
use hub_nodes::address::NodeConfig;
use hub_nodes::{Discover, MAX_NODES};
use hub_owner::config::{MqttConfig, NotificationsConfig, OwnerConfig};
use hub_store::DATABASE_FILE;
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
    /// Address and port of the HTTP gateway; may be given several times [default: port 5000 on 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDR:PORT")]
    pub http: Vec<SocketAddr>,

    /// Address and port of the Owner service; may be given several times [default: port 50051 on 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDR:PORT")]
    pub owner: Vec<SocketAddr>,

    /// Address and port of the dog service; may be given several times [default: port 50055 on 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDR:PORT")]
    pub dog: Vec<SocketAddr>,

    /// Address and port of the catAnalysis service; may be given several times [default: port 50057 on 127.0.0.1 and
    /// ::1]
    #[arg(long, value_name = "ADDR:PORT")]
    pub analysis: Vec<SocketAddr>,

    /// A cat-node and the cat it hears; may be given several times. Without NAME= the node is asked for its cat. Names
    /// that no node claims go to the first node (without: a node at port 50056 of this machine, if one answers)
    #[arg(long, value_name = "NAME=URL")]
    #[serde(serialize_with = "hub_nodes::address::serialize")]
    pub node: Vec<NodeConfig>,

    /// Look for more cat-nodes on the local network, by mDNS. They wait until `hub nodes admit` or the page admits
    /// them; with admit-all, the hub listens to every node that announces itself
    #[arg(long, value_name = "true|false|admit-all")]
    pub discover: Discover,

    /// A secret that nodes have in their configs too: the hub pairs with them without a code. 16 to 128 characters
    #[arg(skip)]
    pub pairing_secret: Option<Secret>,

    /// Folder of the database and the clips [default: $STATE_DIRECTORY, else ~/.local/share/meowlink]
    #[arg(long, value_name = "DIR")]
    #[schemars(length(min = 1))]
    pub data_dir: Option<PathBuf>,

    /// The roles of this process; the others run elsewhere
    #[arg(long, value_name = "ROLES")]
    pub only: Vec<Role>,

    /// The Owner service, when another process has that role
    #[arg(long, value_name = "URL")]
    pub owner_url: HttpUrl,

    /// The dog service, when another process has that role
    #[arg(long, value_name = "URL")]
    pub dog_url: HttpUrl,

    /// The catAnalysis service, when another process has that role
    #[arg(long, value_name = "URL")]
    pub analysis_url: HttpUrl,

    /// How many analyses may run at the same time
    #[arg(long, value_name = "N")]
    #[schemars(range(min = *MAX_ANALYSES.start(), max = *MAX_ANALYSES.end()))]
    pub max_analyses: usize,

    /// Allow addresses other than loopback for the gRPC services, and plain HTTP on those of the gateway. Traffic is
    /// unencrypted and clients are not authenticated
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

    /// TLS of the gateway, and proxies before it.
    #[arg(skip)]
    pub gateway: GatewayConfig,

    /// When a node counts as deaf.
    #[arg(skip)]
    pub health: HealthConfig,
}

/// The node of a hub without configured nodes, on its own machine.
pub fn default_node() -> NodeConfig {
    NodeConfig { cat: None, url: HttpUrl::localhost(port::NODE), min_score: None }
}

impl Default for HubSettings {
    fn default() -> Self {
        let localhost = HttpUrl::localhost;
        Self {
            http: Vec::new(),
            owner: Vec::new(),
            dog: Vec::new(),
            analysis: Vec::new(),
            node: Vec::new(),
            discover: Discover::On,
            pairing_secret: None,
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
            gateway: GatewayConfig::default(),
            health: HealthConfig::default(),
        }
    }
}

impl Settings for HubSettings {
    const PROGRAM: &'static str = "hub";
    const PREFIX: &'static str = "MEOWLINK_HUB_";
    const OLD_PREFIX: &'static str = "HUB_";

    fn check(&self, variables: &Variables) -> Result<(), ConfigError> {
        // The gateway and the owner service have TLS beyond loopback.
        let is_plain = |(role, _): &(Role, &str)| !matches!(role, Role::Gateway | Role::Owner);
        for (role, key) in ADDRESS_KEYS.into_iter().filter(is_plain) {
            self.addresses(role).check(key, self.insecure)?;
        }
        if self.only.is_empty() {
            return Err(ConfigError::value("only", "names no role; leave it out for all of them"));
        }
        self.check_nodes()?;
        if let Some(secret) = &self.pairing_secret {
            PairingSecret::new(secret).map_err(|why| ConfigError::value("pairing_secret", why))?;
        }
        self.listen.check()?;
        self.backup.check()?;
        hub_owner::config::check(&self.owners, &self.notices, self.mqtt.as_ref())?;
        self.detector.check().map_err(|why| ConfigError::value(format!("detector.{}", why.key), why.to_string()))?;
        self.page.check()?;
        self.gateway.check()?;
        self.data_dir_with(variables)?;
        let owners = if self.has(Role::Owner) { self.owners.as_slice() } else { &[] };
        let mqtt = self.mqtt.as_ref().filter(|_| self.has(Role::Owner) || self.has(Role::Analysis));
        hub_owner::config::check_secrets(owners, mqtt)
    }

    fn derived(&self, variables: &Variables) -> Vec<Derived> {
        let mut all: Vec<_> =
            ADDRESS_KEYS.iter().filter_map(|(role, key)| self.addresses(*role).derived(key)).collect();
        if self.data_dir.is_none()
            && let Some((folder, variable)) = default_data_dir(variables)
        {
            let value = folder.display().to_string().into();
            all.push(Derived { key: "data_dir", value, from: format!("the variable {variable}") });
        }
        all
    }
}

/// The key of the addresses of the gateway.
pub(crate) const GATEWAY_KEY: &str = "http";

/// The key of the addresses of the owner service.
pub(crate) const OWNER_KEY: &str = "owner";

/// The keys of the addresses of each role.
pub(crate) const ADDRESS_KEYS: [(Role, &str); 4] =
    [(Role::Gateway, GATEWAY_KEY), (Role::Owner, OWNER_KEY), (Role::Dog, "dog"), (Role::Analysis, "analysis")];

impl HubSettings {
    /// The roles of this process, each once.
    pub fn roles(&self) -> Vec<Role> {
        let mut seen = HashSet::new();
        self.only.iter().copied().filter(|role| seen.insert(*role)).collect()
    }

    /// Whether this process has a role.
    pub fn has(&self, role: Role) -> bool {
        self.only.contains(&role)
    }

    /// Where a role listens, if this process has it.
    pub fn addresses(&self, role: Role) -> Listen {
        let (given, default_port) = match role {
            Role::Gateway => (&self.http, port::HTTP),
            Role::Owner => (&self.owner, port::OWNER),
            Role::Dog => (&self.dog, port::DOG),
            Role::Analysis => (&self.analysis, port::ANALYSIS),
        };
        Listen::given_or_loopback(given, default_port)
    }

    /// Folder of the database and the clips.
    ///
    /// # Errors
    /// If none is given, and no variable of the environment says where it could be.
    pub fn data_dir(&self) -> Result<PathBuf, ConfigError> {
        self.data_dir_with(&Variables::of_process())
    }

    fn data_dir_with(&self, variables: &Variables) -> Result<PathBuf, ConfigError> {
        let given = self.data_dir.clone().or_else(|| default_data_dir(variables).map(|(folder, _)| folder));
        given.ok_or_else(|| ConfigError::value("data_dir", "is not given, and neither STATE_DIRECTORY nor HOME is set"))
    }

    /// The data folder of the hub that a command such as `hub clock` is about: the one that is given, else that of the
    /// service if it is there, else the default one, as for `hub nodes`.
    ///
    /// # Errors
    /// As [`HubSettings::data_dir`].
    pub fn data_dir_of_client(&self, variables: &Variables) -> Result<PathBuf, ConfigError> {
        self.data_dir_of_client_with(variables, Path::new(place::SERVICE_DATA))
    }

    fn data_dir_of_client_with(&self, variables: &Variables, service: &Path) -> Result<PathBuf, ConfigError> {
        // A folder that this user may not look into is there.
        let is_there = || service.join(DATABASE_FILE).try_exists().unwrap_or(true);
        match &self.data_dir {
            None if is_there() => Ok(service.to_owned()),
            _ => self.data_dir_with(variables),
        }
    }

    /// The folder of the service, if a database lies there that this hub does not use, because it has another folder.
    pub(crate) fn unused_data(&self, variables: &Variables) -> Option<PathBuf> {
        let given = self.data_dir.as_ref()?;
        let (folder, _) = default_data_dir(variables).filter(|(_, variable)| *variable == STATE)?;
        let is_same = folder.canonicalize().ok() == given.canonicalize().ok();
        (!is_same && folder.join(DATABASE_FILE).exists()).then_some(folder)
    }

    /// `min_score` by the URL of the node, as the node shows it.
    pub(crate) fn min_scores(&self) -> HashMap<String, f32> {
        self.node.iter().filter_map(|node| Some((node.url.to_string(), node.min_score?))).collect()
    }

    fn check_nodes(&self) -> Result<(), ConfigError> {
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

/// The folder for data if none is given: systemd's `$STATE_DIRECTORY`, else the user's data folder by the XDG rules.
/// With it comes the name of the variable that it is made from.
fn default_data_dir(variables: &Variables) -> Option<(PathBuf, &'static str)> {
    let folder = |name: &'static str, below: &str| {
        let folder = PathBuf::from(variables.get(name)?);
        folder.is_absolute().then(|| (folder.join(below), name))
    };
    systemd::state_folder(variables)
        .map(|folder| (folder, STATE))
        .or_else(|| folder("XDG_DATA_HOME", "meowlink"))
        .or_else(|| folder("HOME", ".local/share/meowlink"))
}

#[cfg(test)]
mod tests {
    use daemon::config::Flags;
    use serde_json::Value;

    use super::*;

    fn config(toml: &str) -> Result<HubSettings, ConfigError> {
        let settings: HubSettings = toml::from_str(toml).unwrap();
        settings.check(&[("HOME", "/somewhere")].into_iter().collect()).map(|()| settings)
    }

    #[test]
    fn command_finds_the_data_of_the_service_or_of_the_user() {
        let service = tempfile::tempdir().unwrap();
        let variables: Variables = [("HOME", "/h")].into_iter().collect();
        let of = |toml: &str| config(toml).unwrap().data_dir_of_client_with(&variables, service.path()).unwrap();
        assert_eq!(of(""), Path::new("/h/.local/share/meowlink"));
        std::fs::write(service.path().join(DATABASE_FILE), "").unwrap();
        assert_eq!(of(""), service.path());
        assert_eq!(of("data_dir = \"/d\""), Path::new("/d"));
    }

    #[test]
    fn defaults_are_those_of_the_original() {
        let config = config("").unwrap();
        assert_eq!(config.roles(), Role::ALL);
        assert_eq!(config.addresses(Role::Gateway), Listen::Loopback(5000));
        assert_eq!(config.addresses(Role::Owner), Listen::Loopback(50051));
        assert_eq!(config.addresses(Role::Dog), Listen::Loopback(50055));
        assert_eq!(config.addresses(Role::Analysis), Listen::Loopback(50057));
        assert_eq!(config.node, []);
        assert_eq!(config.discover, Discover::On);
    }

    #[test]
    fn nodes_are_looked_for_unless_told_not_to() {
        assert_eq!(config("discover = false").unwrap().discover, Discover::Off);
        assert_eq!(config("node = [\"http://a:1\"]").unwrap().discover, Discover::On);
        assert_eq!(config("discover = \"admit-all\"").unwrap().discover, Discover::AdmitAll);
    }

    #[test]
    fn more_nodes_than_a_hub_listens_to_are_refused() {
        let nodes = |count| format!("node = {:?}", vec!["http://a:1"; count]);
        assert!(config(&nodes(MAX_NODES)).is_ok());
        let error = config(&nodes(MAX_NODES + 1)).unwrap_err().to_string();
        assert!(error.starts_with("node: ") && error.contains("65"), "{error}");
    }

    #[test]
    fn data_folder_is_that_of_the_service_or_else_of_the_user() {
        let of = |toml: &str, variables: &[(&str, &str)]| {
            let settings: HubSettings = toml::from_str(toml).unwrap();
            let variables: Variables = variables.iter().copied().collect();
            let folder = settings.data_dir_with(&variables).map(|folder| folder.display().to_string());
            assert_eq!(settings.check(&variables).is_ok(), folder.is_ok());
            let derived = settings.derived(&variables).into_iter().find(|derived| derived.key == "data_dir");
            (folder.unwrap_or_else(|error| error.to_string()), derived.map(|derived| derived.from).unwrap_or_default())
        };
        let home = ("HOME", "/h");
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(of("data_dir = \"/d\"", &[home]), pair("/d", ""));
        assert_eq!(of("", &[home, (STATE, "/s:/t")]), pair("/s", "the variable STATE_DIRECTORY"));
        assert_eq!(of("", &[home, ("XDG_DATA_HOME", "/x")]), pair("/x/meowlink", "the variable XDG_DATA_HOME"));
        assert_eq!(of("", &[home, (STATE, "s")]), pair("/h/.local/share/meowlink", "the variable HOME"));
        assert!(of("", &[("HOME", "")]).0.starts_with("data_dir: is not given"));
    }

    #[test]
    fn database_that_a_new_folder_leaves_behind_is_noticed() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let variables: Variables = [(STATE, old.path())].into_iter().collect();
        let settings = |folder: &Path| HubSettings { data_dir: Some(folder.into()), ..Default::default() };
        assert_eq!(settings(new.path()).unused_data(&variables), None, "the service has no data");
        std::fs::write(old.path().join(DATABASE_FILE), "").unwrap();
        assert_eq!(settings(new.path()).unused_data(&variables), Some(old.path().into()));
        assert_eq!(settings(&old.path().join(".")).unused_data(&variables), None);
        assert_eq!(settings(new.path()).unused_data(&Variables::default()), None);
        assert_eq!(HubSettings::default().unused_data(&variables), None);
    }

    #[test]
    fn passwords_of_urls_are_not_shown() {
        let toml = "node = [\"Tom=http://u:98765@a:1\"]\nowner_url = \"http://u:98765@b:2\"";
        let settings = config(toml).unwrap();
        assert_eq!(settings.owner_url.expose(), "http://u:98765@b:2");
        let shown = serde_json::to_string(&settings).unwrap() + &format!("{settings:?}");
        assert!(shown.contains("Tom=http://u:***@a:1") && !shown.contains("98765"), "{shown}");
    }

    #[test]
    fn secret_that_cannot_be_read_is_refused_before_the_start() {
        let owner = "[[owners]]\nname = \"Anna\"\n[[owners.channels]]\ntype = \"webhook\"\nurl = \"http://a\"\n";
        let error = config(&format!("{owner}secret_file = \"/none/x\"")).unwrap_err().to_string();
        assert!(error.starts_with("owners.Anna.channels.webhook.secret_file: /none/x: "), "{error}");
        let error = config("[mqtt]\nurl = \"mqtt://a\"\nusername = \"u\"\npassword_file = \"/none/x\"").unwrap_err();
        assert!(error.to_string().starts_with("mqtt.password_file: /none/x: "), "{error}");
        // A credential of systemd, which `hub config show` outside the service cannot see.
        config(&format!("{owner}secret_file = \"anna-secret\"")).unwrap();
        // Owners of another process.
        config(&format!("only = [\"dog\"]\n{owner}secret_file = \"/none/x\"")).unwrap();
    }

    #[test]
    fn unknown_keys_are_errors() {
        let error = toml::from_str::<HubSettings>("htpp = []").unwrap_err().to_string();
        assert!(error.contains("htpp"), "{error}");
    }

    /// The settings of a file, as the program loads them.
    fn load(toml: &str) -> Result<HubSettings, String> {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            flags: Flags<HubSettings>,
        }
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let line = <Line as clap::Parser>::parse_from(["hub", "--config", file.path().to_str().unwrap()]);
        line.flags.settings_with(&[("HOME", "/h")].into_iter().collect()).map_err(|error| error.to_string())
    }

    /// A file with one number, below the tables that the path of its key needs.
    fn file_with(path: &[&str], number: &Value) -> String {
        let (key, tables) = path.split_last().unwrap();
        let owner = "[[owners]]\nname = \"Anna\"\n";
        let ntfy = "[[owners.channels]]\ntype = \"ntfy\"\ntopic = \"a\"\n";
        match tables {
            [] => format!("{key} = {number}"),
            ["owners"] => format!("{owner}{key} = {number}\n{ntfy}"),
            ["owners", "channels"] => format!("{owner}{ntfy}{key} = {number}"),
            ["node"] => format!("[[node]]\nurl = \"http://a\"\n{key} = {number}"),
            ["mqtt"] => format!("[mqtt]\nurl = \"mqtt://a\"\n{key} = {number}"),
            tables => format!("[{}]\n{key} = {number}", tables.join(".")),
        }
    }

    /// All numbers of the schema, with the paths of their keys.
    fn numbers<'s>(schema: &'s Value, path: &[&'s str], found: &mut Vec<(Vec<&'s str>, &'s Value)>) {
        let is_number = |word: &Value| word == "integer" || word == "number";
        if is_number(&schema["type"]) || schema["type"].as_array().is_some_and(|types| types.iter().any(is_number)) {
            found.push((path.to_vec(), schema));
        }
        for choices in ["anyOf", "oneOf"] {
            schema[choices].as_array().into_iter().flatten().for_each(|choice| numbers(choice, path, found));
        }
        if schema["items"].is_object() {
            numbers(&schema["items"], path, found);
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            numbers(property, &[path, &[name.as_str()]].concat(), found);
        }
    }

    #[test]
    fn schema_knows_the_ranges_that_are_checked() {
        let schema = daemon::config::schema::<HubSettings>();
        let mut found = Vec::new();
        numbers(&schema, &[], &mut found);
        let has = |path: &[&str]| found.iter().any(|(other, _)| other == path);
        assert!(has(&["max_analyses"]) && has(&["mqtt", "heard_off_s"]) && has(&["owners", "channels", "priority"]));
        for (path, number) in found {
            let (least, most) = (&number["minimum"], &number["maximum"]);
            let (Some(low), Some(high)) = (least.as_f64(), most.as_f64()) else { panic!("{path:?} has no range") };
            for within in [least, most].into_iter().filter(|_| path != ["listen", "frame_ms"]) {
                let more = if path == ["detector", "on_probability"] { "\noff_probability = 0.01" } else { "" };
                let more = if path == ["detector", "off_probability"] { "\non_probability = 0.99" } else { more };
                let toml = format!("{}{more}", file_with(&path, within));
                assert_eq!(load(&toml).map(drop), Ok(()), "{toml}");
            }
            let beyond = |value: f64| if number["type"] == "number" { value.into() } else { (value as i64).into() };
            for beyond in [beyond(low - 1.0), beyond(high + 1.0)] {
                let toml = file_with(&path, &beyond);
                let line = toml.lines().position(|line| line.ends_with(&format!("= {beyond}"))).unwrap() + 1;
                let error = load(&toml).unwrap_err();
                let last = path.last().unwrap();
                assert!(error.contains(&format!(".toml: line {line}: ")), "{toml}: {error}");
                assert!(
                    error.contains(&format!("{last}: {beyond} is not between {low} and {high}")),
                    "{toml}: {error}"
                );
                let mut config: Value = serde_json::to_value(toml::from_str::<toml::Table>(&toml).unwrap()).unwrap();
                assert!(daemon::develop::validate(&schema, &config.take()).is_err(), "{toml}");
            }
        }
    }

    #[test]
    fn what_does_harm_is_refused_with_its_line() {
        for (toml, said) in [
            ("[clips]\nkeep_days = 999999", "line 2: clips.keep_days: 999999 is not between 0 and 36500"),
            ("[events]\nkeep_days = 4294967295", "line 2: events.keep_days: 4294967295 is not between"),
            ("discover = true\ndata_dir = \"\"", "line 2: data_dir: is empty"),
            ("http = [\n\"127.0.0.1:99999\"]", "line 2: http: "),
            (
                "discover = true\nnode = [\"Tom=http://u:98765@a:99999\"]",
                "line 2: node: \"http://u:***@a:99999\": the port \"99999\"",
            ),
            ("[detector]\nmin_score = nan", "line 2: detector.min_score: nan is not between 0 and 1"),
            ("[[owners]]\nname = \"Anna\"\nanimals = []", "line 1: owners.Anna.channels: is empty"),
            ("[[owners]]\nanimals = []\nname = \"\"", "line 3: owners.1.name: is empty"),
            (
                "[[owners]]\nname = \"Anna\"\nchannels = [{ type = \"log\" }]\n\n[[owners]]\nname = \"Anna\"",
                "line 6: owners.Anna.name: two owners are named \"Anna\"",
            ),
            (
                "[[owners]]\nname = \"Anna\"\n[[owners.channels]]\ntype = \"log\"\n\n[[owners.channels]]\ntype = \"log\"",
                "line 6: owners.Anna.channels.log: two channels are named \"log\"",
            ),
            (
                "[[owners]]\nname = \"Anna\"\n[[owners.channels]]\ntype = \"ntfy\"\ntopic = \"a\"\ntokn = \"x\"",
                "line 6: owners.Anna.channels.ntfy.tokn: unknown key; did you mean \"token\"?",
            ),
            (
                "[[owners]]\nname = \"Anna\"\ndigest_at = \"20:00\"\n[[owners.channels]]\ntype = \"log\"",
                "line 1: owners.Anna.time_zone: is needed",
            ),
            (
                "[[owners]]\nname = \"Anna\"\n[[owners.channels]]\ntype = \"webhook\"\nurl = \"ftp://a\"",
                "line 5: owners.Anna.channels.webhook.url: ",
            ),
        ] {
            let error = load(toml).unwrap_err();
            assert!(error.contains(&format!(".toml: {said}")), "{toml}: {error}");
        }
    }

    #[test]
    fn what_makes_no_sense_names_its_key() {
        for (toml, key) in [
            ("only = []", "only: "),
            ("node = [\"Tom=http://a:1\", \"Tom=http://b:1\"]", "node: "),
            ("[listen]\nframe_ms = 30", "listen.frame_ms: "),
            ("[backup]\nto = \"backups\"", "backup.to: "),
            ("[detector]\noff_probability = 0.6", "detector.off_probability: 0.6 is not within 0.01 to 0.5"),
            ("[page]\nhosts = [\"hub.example.org:80\"]", "page.hosts: "),
            ("dog = [\"0.0.0.0:5000\"]", "dog: 0.0.0.0:5000"),
            ("[gateway]\ncert = \"/c.pem\"", "gateway.key: "),
            ("[gateway]\nkey = \"/k.pem\"", "gateway.cert: "),
            ("[gateway]\ntrusted_proxies = [\"nginx\"]", "gateway.trusted_proxies: \"nginx\""),
        ] {
            let error = config(toml).unwrap_err().to_string();
            assert!(error.starts_with(key), "{toml}: {error}");
        }
    }
}
