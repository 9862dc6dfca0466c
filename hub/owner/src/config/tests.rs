use super::*;

fn check_toml(toml: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        owners: Vec<OwnerConfig>,
        #[serde(default)]
        notices: NotificationsConfig,
        mqtt: Option<MqttConfig>,
    }
    let file: File = toml::from_str(toml).map_err(|error| error.to_string())?;
    check(&file.owners, &file.notices, file.mqtt.as_ref()).map_err(|error| error.to_string())
}

const ANNA: &str = "[[owners]]\nname = \"Anna\"\n";
const LOG: &str = "[[owners.channels]]\ntype = \"log\"\n";

#[test]
fn every_key_is_read() {
    let toml = r#"
        [notices]
        public_url = "http://hub.local:5000"
        max_tries = 5
        max_age_h = 2
        keep_days = 7

        [[owners]]
        name = "Anna"
        animals = ["Tom", "Ada"]
        contexts = ["waiting_for_food", "isolation"]
        kinds = ["meow"]
        min_score = 0.8
        calls = false
        alerts = true
        cooldown_s = 600
        digest_at = "20:00"
        quiet_hours = "22:00-07:00"
        time_zone = "Europe/Berlin"

        [[owners.channels]]
        type = "webhook"
        url = "https://example.org/hook?a=b"
        secret = "shh"
        format = "discord"

        [[owners.channels]]
        type = "ntfy"
        name = "phone"
        server = "http://ntfy.local"
        topic = "cats"
        token = "tk_1"
        priority = 4
        tags = ["cat", "bell"]
        attach = true

        [[owners.channels]]
        type = "mqtt"
        topic = "cats/anna"

        [[owners]]
        name = "Bert"
        [[owners.channels]]
        type = "log"

        [mqtt]
        url = "mqtts://broker.local"
        username = "hub"
        password_file = "mqtt.password"
        client_id = "hub"
        topic = "cats"
        home_assistant = true
        discovery_prefix = "homeassistant"
        level_period_s = 5
        heard_off_s = 30
    "#;
    check_toml(toml).unwrap();
}

#[test]
fn bad_value_is_an_error_that_names_its_key() {
    let hook = "[[owners.channels]]\ntype = \"webhook\"\n";
    let ntfy = "[[owners.channels]]\ntype = \"ntfy\"\n";
    for (toml, key) in [
        (ANNA.into(), "owners.Anna.channels: "),
        (format!("{ANNA}{LOG}{LOG}"), "owners.Anna.channels.log: "),
        (format!("{ANNA}{LOG}{ANNA}{LOG}"), "owners.Anna.name: two owners are named \"Anna\""),
        (format!("[[owners]]\nname = \"\"\n{LOG}"), "owners.1.name: is empty"),
        (format!("{ANNA}contexts = [\"hunger\"]\n{LOG}"), "owners.Anna.contexts: "),
        (format!("{ANNA}contexts = [\"not_a_cat\"]\n{LOG}"), "owners.Anna.contexts: "),
        (format!("{ANNA}kinds = [\"bark\"]\n{LOG}"), "owners.Anna.kinds: "),
        (format!("{ANNA}alerts = false\n{LOG}"), "owners.Anna.alerts: "),
        (format!("{ANNA}digest_at = \"20:00\"\n{LOG}"), "owners.Anna.time_zone: "),
        (format!("{ANNA}{hook}url = \"ftp://a\""), "owners.Anna.channels.webhook.url: "),
        (format!("{ANNA}{hook}url = \"ftp://anna:pw@a\""), "owners.Anna.channels.webhook.url: "),
        (
            format!("{ANNA}{hook}url = \"http://a\"\nsecret = \"a\"\nsecret_file = \"b\""),
            "owners.Anna.channels.webhook.secret_file: ",
        ),
        (format!("{ANNA}{ntfy}topic = \"a b\""), "owners.Anna.channels.ntfy.topic: "),
        (format!("{ANNA}{ntfy}topic = \"a\"\nattach = true"), "owners.Anna.channels.ntfy.attach: "),
        (format!("{ANNA}[[owners.channels]]\ntype = \"mqtt\""), "owners.Anna.channels: "),
        ("[mqtt]\nurl = \"http://broker\"".into(), "mqtt.url: "),
        ("[mqtt]\nurl = \"mqtt://broker/path\"".into(), "mqtt.url: "),
        ("[mqtt]\nurl = \"mqtt://anna:secret@broker\"".into(), "mqtt.url: "),
        ("[mqtt]\nurl = \"mqtt://broker\"\ntopic = \"a/#\"".into(), "mqtt.topic: "),
        ("[mqtt]\nurl = \"mqtt://broker\"\npassword = \"a\"".into(), "mqtt.username: "),
        ("[notices]\npublic_url = \"hub\"".into(), "notices.public_url: "),
        ("[notices]\npublic_url = \"http://anna:pw@hub\"".into(), "notices.public_url: "),
        (
            format!("{ANNA}{ntfy}topic = \"a\"\nserver = \"http://anna:pw@ntfy\"\ntoken = \"t\""),
            "owners.Anna.channels.ntfy.token: ",
        ),
    ] {
        let error = check_toml(&toml).unwrap_err();
        assert!(error.starts_with(key), "{toml}: {error}");
        assert!(!error.contains("pw"), "{toml}: {error}");
    }
}

#[test]
fn unknown_key_or_word_is_an_error_that_says_where() {
    for (toml, words) in [
        (format!("{ANNA}animal = \"Tom\""), ["animal", "line 3"]),
        (format!("{ANNA}{LOG}urll = \"a\""), ["urll", "owners"]),
        (format!("{ANNA}[[owners.channels]]\ntype = \"fax\""), ["fax", "webhook"]),
        (format!("{ANNA}[[owners.channels]]\nname = \"phone\""), ["type", "owners"]),
        (format!("{ANNA}[[owners.channels]]\ntype = \"mqtt\"\npriority = 1"), ["priority", "topic"]),
        (format!("{ANNA}[[owners.channels]]\ntype = \"webhook\""), ["url", "owners"]),
        (format!("{ANNA}quiet_hours = \"22-7\""), ["22-7", "HH:MM"]),
        (format!("{ANNA}quiet_hours = \"22:00-22:00\""), ["22:00-22:00", "line 3"]),
        (format!("{ANNA}digest_at = \"24:00\""), ["24:00", "HH:MM"]),
        (format!("{ANNA}time_zone = \"Mars\""), ["Mars", "Europe/Berlin"]),
    ] {
        let error = check_toml(&toml).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{toml}: {error}");
    }
}

#[test]
fn example_is_valid() {
    let example = include_str!("../../../../systemd/hub.toml");
    let from = example.find("# [[owners]]").unwrap();
    let is_toml =
        |line: &&str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let lines = example[from..].lines().filter_map(|line| line.strip_prefix("# ")).filter(is_toml);
    let toml = lines.collect::<Vec<_>>().join("\n");
    assert!(toml.contains("[notices]") && toml.contains("quiet_hours"), "{toml}");
    check_toml(&toml).unwrap();
}
