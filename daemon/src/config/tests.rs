use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;

/// Settings of every form that the programs use: sections, lists, lists of tables, secrets, optional values.
#[derive(Debug, Clone, PartialEq, clap::Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Example {
    /// Where to listen
    #[arg(long, value_name = "ADDR:PORT")]
    http: Vec<SocketAddr>,
    /// Names
    #[arg(long = "cat", value_name = "NAME")]
    cats: Vec<String>,
    /// How loud
    #[arg(long, allow_negative_numbers = true)]
    #[schemars(range(min = -60.0, max = 60.0))]
    gain_db: f32,
    /// Whether to look for more
    #[arg(long)]
    discover: bool,
    /// Where to keep it
    #[arg(long)]
    #[schemars(length(min = 1))]
    data_dir: Option<PathBuf>,
    /// How a line looks
    #[arg(long)]
    log_format: crate::logs::LogFormat,
    #[arg(skip)]
    clips: Clips,
    #[arg(skip)]
    pub(super) mqtt: Option<Broker>,
    #[arg(skip)]
    owners: Vec<Owner>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Clips {
    /// Before the event
    #[schemars(range(max = 2000))]
    pre_roll_ms: u32,
    /// Least share
    share: f32,
    /// Names of hosts
    hosts: Vec<String>,
    /// Where a browser finds it
    public_url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Broker {
    url: String,
    #[serde(default)]
    port: u16,
    pub(super) password: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Owner {
    name: String,
    #[serde(default)]
    channels: Vec<Channel>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Channel {
    Log {},
    Webhook { url: String, secret: Option<Secret> },
}

impl Default for Example {
    fn default() -> Self {
        Self {
            http: Vec::new(),
            cats: vec!["Tom".into(), "Ada".into()],
            gain_db: 0.2,
            discover: true,
            data_dir: None,
            log_format: crate::logs::LogFormat::Text,
            clips: Clips::default(),
            mqtt: None,
            owners: Vec::new(),
        }
    }
}

impl Default for Clips {
    fn default() -> Self {
        Self { pre_roll_ms: 500, share: 0.7, hosts: Vec::new(), public_url: None }
    }
}

impl Settings for Example {
    const PROGRAM: &'static str = "example";
    const PREFIX: &'static str = "MEOWLINK_EXAMPLE_";
    const OLD_PREFIX: &'static str = "EXAMPLE_";

    fn check(&self, _: &Variables) -> Result<(), ConfigError> {
        match self.cats.iter().find(|cat| cat.is_empty()) {
            Some(_) => Err(ConfigError::value("cats", "one has no name")),
            None => Ok(()),
        }
    }

    fn derived(&self, variables: &Variables) -> Vec<Derived> {
        let home = variables.get("HOME").filter(|_| self.data_dir.is_none());
        let folder = home.map(|home| format!("{}/cats", home.display()));
        let derived = |folder: String| Derived { key: "data_dir", value: folder.into(), from: "HOME".into() };
        folder.map(derived).into_iter().collect()
    }
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    flags: Flags<Example>,
}

/// A config file.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

pub(super) fn all_layers(
    text: &str,
    variables: &[(&str, &str)],
    line: &[&str],
) -> Result<Loaded<Example>, ConfigError> {
    let file = file(text);
    let line = [&["example", "--config", file.path().to_str().unwrap()], line].concat();
    Line::try_parse_from(line).unwrap().flags.load_with(&variables.iter().copied().collect())
}

fn error(text: &str, variables: &[(&str, &str)]) -> String {
    all_layers(text, variables, &[]).unwrap_err().to_string()
}

#[test]
fn a_layer_counts_for_more_than_those_below() {
    let file = "gain_db = 1.0\n";
    let old = ("EXAMPLE_GAIN_DB", "2");
    let new = ("MEOWLINK_EXAMPLE_GAIN_DB", "3");
    for (file, variables, line, gain_db, origin) in [
        ("", &[][..], &[][..], 0.2, "default"),
        (file, &[], &[], 1.0, ".toml:1"),
        (file, &[old], &[], 2.0, "EXAMPLE_GAIN_DB"),
        (file, &[old, new], &[], 3.0, "MEOWLINK_EXAMPLE_GAIN_DB"),
        (file, &[old, new], &["--gain-db", "-4"], -4.0, "--gain-db"),
    ] {
        let loaded = all_layers(file, variables, line).unwrap();
        assert_eq!(loaded.settings, Example { gain_db, ..Example::default() });
        let said = loaded.origin("gain_db").to_string();
        assert!(said.ends_with(origin), "{said}");
    }
}

#[test]
fn sections_merge_key_by_key() {
    let file = "[clips]\nshare = 0.5\npre_roll_ms = 1\n\n[mqtt]\nurl = \"mqtt://a\"\n";
    let variables = [
        ("MEOWLINK_EXAMPLE_CLIPS_PRE_ROLL_MS", "2"),
        ("MEOWLINK_EXAMPLE_CLIPS_HOSTS", "a, b"),
        ("MEOWLINK_EXAMPLE_MQTT_PASSWORD", "pst"),
    ];
    let loaded = all_layers(file, &variables, &[]).unwrap();
    let clips = Clips { pre_roll_ms: 2, share: 0.5, hosts: vec!["a".into(), "b".into()], public_url: None };
    let mqtt = Broker { url: "mqtt://a".into(), port: 0, password: Some(Secret::new("pst")) };
    assert_eq!(loaded.settings, Example { clips, mqtt: Some(mqtt), ..Example::default() });
    assert_eq!(loaded.origin("clips.pre_roll_ms"), Origin::Environment("MEOWLINK_EXAMPLE_CLIPS_PRE_ROLL_MS".into()));
    assert!(matches!(loaded.origin("clips.share"), Origin::File { line: Some(2), .. }));
}

#[test]
fn a_section_that_no_file_has_can_come_from_the_environment() {
    let mqtt = all_layers("", &[("MEOWLINK_EXAMPLE_MQTT_URL", "mqtt://a")], &[]).unwrap().settings.mqtt.unwrap();
    assert_eq!(mqtt.url, "mqtt://a");
    let said = error("", &[("MEOWLINK_EXAMPLE_MQTT_PORT", "1")]);
    assert_eq!(said, "MEOWLINK_EXAMPLE_MQTT_PORT: the key \"url\" is missing");
}

#[test]
fn lists_are_separated_by_commas() {
    let http = ["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
    let of_environment = all_layers("", &[("EXAMPLE_HTTP", "127.0.0.1:1, [::1]:2")], &[]).unwrap().settings;
    assert_eq!(of_environment.http, http);
    for line in [&["--http", "127.0.0.1:1,[::1]:2"][..], &["--http", "127.0.0.1:1", "--http", "[::1]:2"]] {
        assert_eq!(all_layers("", &[], line).unwrap().settings.http, http);
    }
    let empty = all_layers("", &[("MEOWLINK_EXAMPLE_CATS", "")], &[]).unwrap().settings;
    assert!(empty.cats.is_empty());
}

#[test]
fn a_flag_without_a_value_means_true() {
    for (line, discover) in [(&[][..], false), (&["--discover"], true), (&["--discover=false"], false)] {
        assert_eq!(all_layers("discover = false", &[], line).unwrap().settings.discover, discover);
    }
    let of_environment = all_layers("", &[("MEOWLINK_EXAMPLE_DISCOVER", "false")], &[]).unwrap();
    assert!(!of_environment.settings.discover);
}

#[test]
fn file_is_named_by_flag_or_environment() {
    let (one, other) = (file("gain_db = 1.0"), file("gain_db = 2.0"));
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().unwrap().to_owned();
    let load = |line: &[&str], variables: &[(&str, String)]| {
        let line = Line::try_parse_from([&["example"], line].concat()).unwrap();
        line.flags.load_with(&variables.iter().cloned().collect()).unwrap().settings.gain_db
    };
    let old = ("EXAMPLE_CONFIG", path(&one));
    let new = ("MEOWLINK_EXAMPLE_CONFIG", path(&other));
    assert_eq!(load(&[], std::slice::from_ref(&old)), 1.0);
    assert_eq!(load(&[], &[old, new.clone()]), 2.0);
    assert_eq!(load(&["--config", &path(&one)], &[new]), 1.0);
}

#[test]
fn mistakes_in_the_file_name_file_line_and_key() {
    for (text, said) in [
        ("\ngian_db = 1", "line 2: gian_db: unknown key; did you mean \"gain_db\"?"),
        ("volume = 1", "line 1: volume: unknown key"),
        ("[clips]\npre_rol_ms = 1", "line 2: clips.pre_rol_ms: unknown key; did you mean \"pre_roll_ms\"?"),
        ("[clipz]\nshare = 1", "line 1: clipz: unknown key; did you mean \"clips\"?"),
        ("gain_db = \"loud\"", "line 1: gain_db: \"loud\" is not a number"),
        (
            "http = [\n\"127.0.0.1:1\",\n\"nowhere\"]",
            "line 3: http: \"nowhere\" is not ADDRESS:PORT, such as 127.0.0.1:5000",
        ),
        ("clips = 5", "line 1: clips: must be a table, not 5"),
        ("[clips]\n\npre_roll_ms = -1", "line 3: clips.pre_roll_ms: -1 is not between 0 and 2000"),
        ("[mqtt]\nport = 1", "line 1: mqtt: the key \"url\" is missing"),
        ("[[owners]]\nname = \"Anna\"\nanimal = 5", "line 3: owners.Anna.animal: unknown key"),
        ("gain_db = 1\n[[owners]]\nanimal = 5\nname = 3", "line 3: owners.1.animal: unknown key"),
        ("gain_db = nan", "line 1: gain_db: nan is not between -60 and 60"),
        ("gain_db = 6_1.0", "line 1: gain_db: 61.0 is not between -60 and 60"),
        ("[clips]\npre_roll_ms = 0x1000", "line 2: clips.pre_roll_ms: 4096 is not between 0 and 2000"),
        ("gain_db = 1\ndata_dir = \"\"", "line 2: data_dir: is empty"),
        ("gain_db = 1\ndiscover = treu", "line 2: discover: not valid TOML: "),
        ("gain_db", "line 1: not valid TOML: "),
    ] {
        let error = error(text, &[]);
        assert!(error.contains(&format!(".toml: {said}")), "{text}: {error}");
    }
    let line = Line::try_parse_from(["example", "--config", "/nowhere/cat.toml"]).unwrap();
    let error = line.flags.load_with(&Variables::default()).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/cat.toml: cannot read"), "{error}");
}

#[test]
fn a_file_that_is_not_utf8_is_named_with_the_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"gain_db = 1\ncats = [\"M\xfctze\"]\n").unwrap();
    let error = layers::load::<Example>(Some(file.path()), &[]).unwrap_err().to_string();
    assert!(error.ends_with(": line 2: a character is not UTF-8; save the file as UTF-8"), "{error}");
}

#[test]
fn mistakes_in_a_channel_name_its_line_and_key() {
    let channel = |text: &str| {
        let owner = "[[owners]]\nname = \"Anna\"\n";
        let log = "[[owners.channels]]\ntype = \"log\"\n";
        error(&format!("{owner}{log}[[owners.channels]]\n{text}"), &[])
    };
    for (text, said) in [
        (
            "type = \"webhook\"\nurl = \"a\"\nsecrt = \"98765\"",
            "8: owners.Anna.channels.webhook.secrt: unknown key; did you mean \"secret\"?",
        ),
        ("type = \"log\"\nurl = \"98765\"", "7: owners.Anna.channels.log.url: unknown key"),
        ("type = \"webhook\"", "5: owners.Anna.channels.webhook: the key \"url\" is missing"),
        ("type = \"sms\"\ntoken = \"98765\"", "6: owners.Anna.channels.sms.type: is not one of log, webhook"),
        ("url = \"98765\"", "5: owners.Anna.channels.2: the key \"type\" is missing"),
        (
            "type = \"webhook\"\nsecret = \"98765\"\nurl = 98765",
            "8: owners.Anna.channels.webhook.url: must be a text in quotes",
        ),
        (
            "type = \"webhook\"\nurl = \"a\"\nsecret = 98765",
            "8: owners.Anna.channels.webhook.secret: must be a text in quotes",
        ),
    ] {
        let error = channel(text);
        assert!(error.ends_with(&format!(".toml: line {said}")), "{text}: {error}");
    }
}

#[test]
fn the_second_owner_is_shown_with_its_own_line() {
    let text = "[[owners]]\nname = \"Anna\"\n[[owners]]\nname = \"Ben\"\n[[owners.channels]]\ntype = \"log\"\n";
    let shown = all_layers(text, &[], &[]).unwrap().to_toml(&[]).unwrap();
    let lines = shown.lines().filter(|line| line.starts_with("[[owners]]")).collect::<Vec<_>>();
    assert!(lines[0].ends_with(".toml:1") && lines[1].ends_with(".toml:3"), "{shown}");
    assert!(shown.contains("channels = []") && shown.contains("name = \"Ben\""), "{shown}");
}

#[test]
fn a_section_in_the_environment_does_not_hide_a_mistake_in_the_file() {
    let error = error("clips = 5", &[("MEOWLINK_EXAMPLE_CLIPS_SHARE", "1")]);
    assert!(error.contains(".toml: line 1: clips: "), "{error}");
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    for ((name, value), said) in [
        (("MEOWLINK_EXAMPLE_GAIN_DB", "loud"), ": \"loud\" is not a number"),
        (("EXAMPLE_GAIN_DB", "loud"), ": \"loud\" is not a number"),
        (("MEOWLINK_EXAMPLE_CLIPS_PRE_ROLL_MS", "1.5"), ": \"1.5\" is not a whole number"),
        (("MEOWLINK_EXAMPLE_CLIPS_PRE_ROLL_MS", "-1"), ": -1 is not between 0 and 2000"),
        (("MEOWLINK_EXAMPLE_DISCOVER", "yes"), ": \"yes\" is neither true nor false"),
        (("MEOWLINK_EXAMPLE_HTTP", "127.0.0.1:1,nowhere"), ": the value is not ADDRESS:PORT, such as 127.0.0.1:5000"),
        (("MEOWLINK_EXAMPLE_LOG_FORMAT", "xml"), ": \"xml\" is not known (expected text or json)"),
        (("MEOWLINK_EXAMPLE_DATA_DIR", ""), ": is empty; give it a value or unset it"),
        (("MEOWLINK_EXAMPLE_OWNERS", "Anna"), ": only the config file can set it"),
        (("MEOWLINK_EXAMPLE_GIAN_DB", "1"), ": unknown variable; did you mean MEOWLINK_EXAMPLE_GAIN_DB?"),
        (("MEOWLINK_EXAMPLE_", "1"), ": unknown variable; `example --help` lists the known ones"),
    ] {
        assert_eq!(error("", &[(name, value)]), format!("{name}{said}"));
    }
}

#[test]
fn variables_that_kubernetes_makes_for_a_service_stop_nothing() {
    for (name, value) in [
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT", "5000"),
        ("SERVICE_PORT_HTTP", "5000"),
        ("PORT", "tcp://10.0.0.1:5000"),
        ("PORT_5000_TCP", "tcp://10.0.0.1:5000"),
        ("PORT_5000_TCP_PROTO", "tcp"),
        ("PORT_5000_UDP_ADDR", "10.0.0.1"),
        ("HTTP_SERVICE_HOST", "10.0.0.1"),
        ("HTTP_PORT", "tcp://10.0.0.1:5000"),
    ] {
        let name = format!("MEOWLINK_EXAMPLE_{name}");
        assert_eq!(all_layers("", &[(&name, value)], &[]).unwrap().settings, Example::default(), "{name}");
    }
    for (name, value) in [("PORT", "5000"), ("MQTT_PORTS", "1"), ("PORT_HTTP_TCP", "1"), ("SERVICE", "a")] {
        let name = format!("MEOWLINK_EXAMPLE_{name}");
        assert!(error("", &[(&name, value)]).starts_with(&format!("{name}: unknown variable")), "{name}");
    }
}

#[test]
fn variables_of_other_programs_are_ignored() {
    let variables = [("EXAMPLE_FOO", "1"), ("EXAMPLE_CLIPS_PRE_ROLL_MS", "x"), ("EXAMPLE_CLIPS", "x"), ("HOME", "/")];
    assert_eq!(all_layers("", &variables, &[]).unwrap().settings, Example::default());
}

#[test]
fn checks_name_where_the_value_comes_from() {
    let text = "gain_db = 9\n[[owners]]\nname = \"Anna\"\n[[owners]]\nname = \"B.en\"\n\
                [[owners.channels]]\ntype = \"webhook\"\nurl = \"http://a\"\n[mqtt]\nurl = \"a\"\n";
    let loaded = all_layers(text, &[("MEOWLINK_EXAMPLE_CLIPS_SHARE", "0.9")], &["--discover"]).unwrap();
    for (key, place) in [
        ("gain_db", ".toml: line 1: gain_db: "),
        ("owners.Anna.channels", ".toml: line 2: owners.Anna.channels: "),
        ("owners.B.en.time_zone", ".toml: line 4: owners.B.en.time_zone: "),
        ("owners.B.en.channels.webhook.url", ".toml: line 8: owners.B.en.channels.webhook.url: "),
        ("owners.B.en.channels.webhook.secret", ".toml: line 6: owners.B.en.channels.webhook.secret: "),
        ("owners.name", ".toml: owners.name: "),
        ("mqtt.password", ".toml: line 9: mqtt.password: "),
        ("clips.pre_roll_ms", "clips.pre_roll_ms: "),
        ("clips.share", "MEOWLINK_EXAMPLE_CLIPS_SHARE: "),
        ("discover", "--discover: "),
        ("data_dir", "data_dir: "),
    ] {
        let error =
            loaded.checked::<()>(Err(ConfigError::value(key, "is bad: http://u:pw@h"))).unwrap_err().to_string();
        assert!(error.ends_with(&format!("{place}is bad: http://u:***@h")), "{error}");
    }
}

#[test]
fn errors_do_not_show_secrets() {
    let webhook = "[[owners]]\nname = \"Anna\"\n[[owners.channels]]\ntype = \"webhook\"\nurl = \"http://a\"\n";
    for text in [
        "[mqtt]\nurl = \"a\"\npassword = 98765\n".to_owned(),
        "[mqtt]\nurl = \"a\"\npassword = [\"98765\"]\n".to_owned(),
        "[mqtt]\nurl = \"a\"\npassword = 98765x\n".to_owned(),
        "mqtt = { url = \"a\", password = 98765 }\n".to_owned(),
        format!("{webhook}secret = 98765\n"),
        format!("{webhook}secret = 98765x\n"),
        "[mqtt]\nurl = \"a\"\npassword = \"\"\"\n98765=\u{1}\"\"\"\n".to_owned(),
    ] {
        let error = error(&text, &[]);
        assert!(error.contains("line ") && !error.contains("9876"), "{text}: {error}");
    }
}

#[test]
fn no_slip_of_the_pen_shows_a_secret() {
    let text = "gain_db = 1\n[mqtt]\nurl = \"mqtt://a\"\npassword = \"tk_98765\"\n[[owners]]\nname = \"Anna\"\n\
                [[owners.channels]]\ntype = \"webhook\"\nurl = \"http://a\"\nsecret = 'tk_98765'\n";
    let mut refused = 0;
    for at in 0..text.len() {
        let (before, after) = text.split_at(at);
        let others = ["", "\"", "=", "]", "\n", "\u{1}", "\"\"\""];
        for slip in others.map(|other| format!("{before}{other}{}", &after[1..])) {
            if let Err(error) = all_layers(&slip, &[], &[]) {
                refused += 1;
                let error = error.to_string();
                assert!(!error.contains("987"), "{slip}: {error}");
                assert!(error.contains("line "), "{slip}: {error}");
            }
        }
    }
    assert!(refused > 500, "{refused}");
}

#[test]
fn shown_settings_are_a_config_file_that_gives_the_same() {
    let text = "http = [\"127.0.0.1:1\"]\ngain_db = -3.3\n[clips]\npre_roll_ms = 7\n\
                [[owners]]\nname = \"Anna \\\"A\\\"\"\n[[owners.channels]]\ntype = \"log\"\n";
    let loaded = all_layers(text, &[("MEOWLINK_EXAMPLE_CLIPS_SHARE", "0.3")], &["--cat", "a # b"]).unwrap();
    let shown = loaded.to_toml(&[]).unwrap();
    assert_eq!(all_layers(&shown, &[], &[]).unwrap().settings, loaded.settings, "{shown}");
    for (line, origin) in [
        ("http = [\"127.0.0.1:1\"]", ".toml:1"),
        ("cats = [\"a # b\"]", "# --cat"),
        ("gain_db = -3.3", ".toml:2"),
        ("discover = true", "# default"),
        ("pre_roll_ms = 7", ".toml:4"),
        ("share = 0.3", "# MEOWLINK_EXAMPLE_CLIPS_SHARE"),
        ("[[owners]]", ".toml:5"),
        ("name = \"Anna \\\"A\\\"\"", ".toml:6"),
        ("[[owners.channels]]", ".toml:7"),
        ("type = \"log\"", ".toml:8"),
    ] {
        let shown = shown.lines().find(|shown| shown.starts_with(line)).unwrap_or_else(|| panic!("{line}: {shown}"));
        assert!(shown.ends_with(origin), "{shown}");
    }
    for note in ["\n# data_dir is not set\n", "\n# public_url is not set\n", "\n# [mqtt] is not set\n"] {
        assert!(shown.contains(note), "{note}: {shown}");
    }
    let odd = all_layers("", &[], &["--cat", "a\n# b = \"c\"\n", "--cat", "\u{7f}\\"]).unwrap();
    assert_eq!(all_layers(&odd.to_toml(&[]).unwrap(), &[], &[]).unwrap().settings, odd.settings);
    let defaults = all_layers("", &[], &[]).unwrap().to_toml(&[]).unwrap();
    assert_eq!(all_layers(&defaults, &[], &[]).unwrap().settings, Example::default(), "{defaults}");
}

#[test]
fn shown_settings_have_no_secrets() {
    let text = "[mqtt]\nurl = \"mqtt://u:98765@a\"\npassword = \"98765\"\n[[owners]]\nname = \"Anna\"\n\
                [[owners.channels]]\ntype = \"webhook\"\nurl = \"http://u:98765@a\"\nsecret = \"98765\"\n";
    let loaded = all_layers(text, &[], &[]).unwrap();
    assert_eq!(loaded.settings.mqtt.as_ref().unwrap().password.as_ref().unwrap().expose(), "98765");
    let shown = loaded.to_toml(&[]).unwrap();
    assert!(!shown.contains("98765") && !loaded.to_json(&[]).unwrap().to_string().contains("98765"), "{shown}");
    assert!(shown.contains("# password = \"***\"") && shown.contains("# secret = \"***\""), "{shown}");
    assert!(shown.contains("url = \"mqtt://u:***@a\""), "{shown}");
    // A masked secret must not become one.
    let again = all_layers(&shown, &[], &[]).unwrap().settings;
    assert_eq!(again.mqtt.unwrap().password, None);
}

#[test]
fn shown_settings_say_what_is_derived_and_are_checked_as_at_the_start() {
    let show = |more: &[&str], variables: &[(&str, &str)]| {
        #[derive(Debug, Parser)]
        struct Line {
            #[command(subcommand)]
            command: ConfigCommand<Example>,
        }
        let line = Line::try_parse_from([&["config", "show"], more].concat()).unwrap();
        line.command.text_with(&variables.iter().copied().collect())
    };
    let shown = show(&[], &[("HOME", "/h")]).unwrap();
    let line =
        shown.lines().find(|line| line.starts_with("# data_dir = \"/h/cats\"")).unwrap_or_else(|| panic!("{shown}"));
    assert!(line.ends_with("  # derived from HOME"), "{line}");
    let shown: serde_json::Value = serde_json::from_str(&show(&["--json"], &[("HOME", "/h")]).unwrap()).unwrap();
    let said = serde_json::json!({ "value": null, "from": "default", "derived": "/h/cats", "derived_from": "HOME" });
    assert_eq!(shown["data_dir"], said);
    assert!(show(&["--data-dir", "/d"], &[("HOME", "/h")]).unwrap().contains("\ndata_dir = \"/d\" "));
    assert_eq!(show(&["--cat", ""], &[]).unwrap_err().to_string(), "--cat: one has no name");
}

#[test]
fn json_has_every_key_with_its_value_and_origin() {
    let variables = [("MEOWLINK_EXAMPLE_CLIPS_SHARE", "0.3")];
    let loaded = all_layers("\ngain_db = 0.1", &variables, &["--cat", "Tom"]).unwrap();
    let shown = loaded.to_json(&[]).unwrap();
    assert_eq!(shown["clips.pre_roll_ms"], serde_json::json!({ "value": 500, "from": "default" }));
    let share = serde_json::json!({ "value": 0.3, "from": "environment", "name": "MEOWLINK_EXAMPLE_CLIPS_SHARE" });
    assert_eq!(shown["clips.share"], share);
    assert_eq!(shown["cats"], serde_json::json!({ "value": ["Tom"], "from": "flag", "name": "--cat" }));
    assert_eq!(shown["data_dir"]["value"], serde_json::Value::Null);
    assert_eq!((&shown["gain_db"]["value"], &shown["gain_db"]["line"]), (&0.1.into(), &2.into()));
    assert_eq!(shown.as_object().unwrap().len(), keys::<Example>().len());
}

#[test]
fn schema_says_types_defaults_and_ranges() {
    let schema = schema::<Example>();
    let gain = &schema["properties"]["gain_db"];
    assert_eq!((&gain["type"], &gain["default"]), (&"number".into(), &0.2.into()));
    assert_eq!((&gain["minimum"], &gain["maximum"]), (&(-60.0).into(), &60.0.into()));
    assert_eq!(gain["description"], "How loud");
    assert_eq!(schema["properties"]["clips"]["properties"]["pre_roll_ms"]["maximum"], 2000);
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn no_two_keys_have_the_same_variable() {
    let mut names: Vec<String> = keys::<Example>().iter().map(Key::variable::<Example>).collect();
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn help_says_default_and_variable() {
    let help = <Line as clap::CommandFactory>::command().render_long_help().to_string();
    // However it is wrapped.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "--gain-db <GAIN_DB>",
        "How loud [default: 0.2] [env: MEOWLINK_EXAMPLE_GAIN_DB]",
        "--discover[=<true|false>]",
        "Whether to look for more [default: true] [env: MEOWLINK_EXAMPLE_DISCOVER]",
        "Names [default: Tom,Ada] [env: MEOWLINK_EXAMPLE_CATS]",
        "Where to keep it [env: MEOWLINK_EXAMPLE_DATA_DIR]",
        "[env: MEOWLINK_EXAMPLE_CONFIG]",
    ] {
        assert!(help.contains(said), "{said}: {help}");
    }
}

enum Loudness {}

impl Selection for Loudness {
    fn includes(key: &str) -> bool {
        key == "gain_db"
    }
}

#[test]
fn a_command_may_have_a_part_of_the_flags() {
    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags<Example, Loudness>,
    }
    let line = Line::try_parse_from(["example", "--gain-db", "3"]).unwrap();
    let variables = [("EXAMPLE_DISCOVER", "false")].into_iter().collect();
    let settings = line.flags.load_with(&variables).unwrap().settings;
    assert_eq!(settings, Example { gain_db: 3.0, discover: false, ..Example::default() });
    assert!(Line::try_parse_from(["example", "--discover"]).is_err());
}

#[test]
fn missing_file_names_file() {
    let line = Line::try_parse_from(["example", "--config", "/nowhere/cat.toml"]).unwrap();
    let error = line.flags.load_with(&Variables::default()).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/cat.toml: cannot read"), "{error}");
}
