//! What the hub publishes about a node for discovery by Home Assistant:
//! <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>.

use hub_owner::config::MqttConfig;
use hub_store::KnownBy;
use serde_json::{Value, json};

/// Contexts of events.
const CONTEXTS: [&str; 4] = ["waiting_for_food", "isolation", "brushing", "uncertain"];

/// Retained topics of a node, beside those that announce it.
const RETAINED: [&str; 3] = ["availability", "state", "last"];

/// Names of a node in topics and in Home Assistant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The id of the node in topics: see [`id_of`].
    id: String,
    /// Name of the device, for people.
    device: String,
    base: String,
}

impl Names {
    /// The names of the node with this id in topics, which is at this URL now. `cat`: the name of its cat, and whether
    /// no other node hears this cat.
    pub(super) fn new(config: &MqttConfig, id: &str, url: &str, cat: Option<(&str, bool)>) -> Self {
        let host = host_of(url);
        let device = match cat.filter(|(name, _)| !name.is_empty()) {
            Some((cat, true)) => format!("{cat}'s cat-node"),
            Some((cat, false)) => format!("{cat}'s cat-node ({host})"),
            None => format!("Cat node {host}"),
        };
        Self { id: id.to_owned(), device, base: config.topic.clone() }
    }

    /// The names of a node that was published with this id.
    pub(super) fn of_id(config: &MqttConfig, id: &str) -> Self {
        Self { id: id.to_owned(), device: String::new(), base: config.topic.clone() }
    }

    /// The id of the node in topics.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// A topic of the node.
    pub(super) fn topic(&self, what: &str) -> String {
        format!("{}/{}/{what}", self.base, self.id)
    }
}

/// Digits of a node's id in topics.
const ID_DIGITS: usize = 16;

/// The id in topics of a node that is known by its URL or by its id.
pub(super) fn id_of(known_by: &KnownBy) -> String {
    match known_by {
        KnownBy::Url(url) => slug(host_of(url)),
        KnownBy::Id(id) => id.chars().take(ID_DIGITS).collect(),
    }
}

/// Host and port of a URL, which may contain a password.
fn host_of(url: &str) -> &str {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    host.rsplit_once('@').map_or(host, |(_, host)| host).trim_end_matches('/')
}

fn slug(text: &str) -> String {
    text.chars().map(|letter| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' }).collect()
}

/// Whether a text is the id of a node in topics.
pub(super) fn is_id(text: &str) -> bool {
    !text.is_empty() && slug(text) == text
}

/// A text as Home Assistant writes it in the id of an entity.
fn entity_slug(text: &str) -> String {
    let letters = text.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' });
    let plain = letters.collect::<String>().to_ascii_lowercase();
    plain.split('_').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
}

/// All topics of a node that the broker retains.
pub(super) fn topics(config: &MqttConfig, names: &Names) -> Vec<String> {
    let announcing = configs(config, names, None).into_iter().map(|(topic, _)| topic);
    announcing.chain(RETAINED.map(|what| names.topic(what))).collect()
}

/// Topics and payloads that announce a node. The broker must retain them.
pub(super) fn configs(config: &MqttConfig, names: &Names, public_url: Option<&str>) -> Vec<(String, Value)> {
    let device_id = format!("{}_{}", slug(&config.topic), names.id);
    let device = {
        let mut device = json!({
            "identifiers": [device_id],
            "name": names.device,
            "manufacturer": "Meowlink",
            "model": "cat-node",
        });
        if let Some(url) = public_url {
            device["configuration_url"] = url.into();
        }
        device
    };
    let hub_is_there = json!({ "topic": format!("{}/status", config.topic) });
    let node_is_there = json!({ "topic": names.topic("availability") });
    let available =
        |needs_node: bool| if needs_node { json!([hub_is_there, node_is_there]) } else { json!([hub_is_there]) };
    let config_of = |entity: Entity| {
        let Entity { component, object, needs_node, more } = entity;
        let mut payload = json!({
            "unique_id": format!("{device_id}_{object}"),
            "default_entity_id": format!("{component}.{}", entity_slug(&format!("{device_id}_{object}"))),
            "device": device,
            "origin": { "name": "Meowlink", "sw_version": env!("CARGO_PKG_VERSION") },
            "availability_mode": "all",
            "availability": available(needs_node),
        });
        let (all, more) = (payload.as_object_mut(), more.as_object().cloned().unwrap_or_default());
        all.expect("an object, from just above").extend(more);
        (format!("{}/{component}/{device_id}/{object}/config", config.discovery_prefix), payload)
    };
    node_entities(names).into_iter().chain(cat_entities(config, names)).map(config_of).collect()
}

/// One thing that Home Assistant shows of a node.
struct Entity {
    component: &'static str,
    object: &'static str,
    /// Whether it is unavailable while the node is away.
    needs_node: bool,
    /// What its config has beyond that of all entities.
    more: Value,
}

/// How the node is.
fn node_entities(names: &Names) -> [Entity; 3] {
    [
        Entity {
            component: "binary_sensor",
            object: "connection",
            needs_node: false,
            more: json!({
                "name": "Connection",
                "device_class": "connectivity",
                "entity_category": "diagnostic",
                "state_topic": names.topic("state"),
                "value_template": "{{ 'ON' if value_json.connected else 'OFF' }}",
            }),
        },
        Entity {
            component: "binary_sensor",
            object: "problem",
            needs_node: false,
            more: json!({
                "name": "Problem",
                "device_class": "problem",
                "entity_category": "diagnostic",
                "state_topic": names.topic("state"),
                "value_template": "{{ 'ON' if value_json.problem else 'OFF' }}",
                "json_attributes_topic": names.topic("state"),
            }),
        },
        Entity {
            component: "sensor",
            object: "level",
            needs_node: true,
            more: json!({
                "name": "Level",
                "icon": "mdi:microphone",
                "unit_of_measurement": "dBFS",
                "state_class": "measurement",
                "state_topic": names.topic("level"),
                "value_template": "{{ value_json.rms_dbfs }}",
            }),
        },
    ]
}

/// What the node hears.
fn cat_entities(config: &MqttConfig, names: &Names) -> [Entity; 4] {
    [
        Entity {
            component: "sensor",
            object: "score",
            needs_node: true,
            more: json!({
                "name": "Score",
                "icon": "mdi:cat",
                "state_class": "measurement",
                "state_topic": names.topic("level"),
                "value_template": "{{ value_json.score }}",
            }),
        },
        Entity {
            component: "binary_sensor",
            object: "heard",
            needs_node: true,
            more: json!({
                "name": "Cat heard",
                "icon": "mdi:cat",
                "device_class": "sound",
                "state_topic": names.topic("event"),
                "value_template": "ON",
                "off_delay": config.heard_off_s,
            }),
        },
        Entity {
            component: "sensor",
            object: "context",
            needs_node: false,
            more: json!({
                "name": "Last context",
                "icon": "mdi:message-question",
                "device_class": "enum",
                "options": CONTEXTS,
                "state_topic": names.topic("last"),
                "value_template": "{{ value_json.event_type }}",
                "json_attributes_topic": names.topic("last"),
            }),
        },
        Entity {
            component: "event",
            object: "cat",
            needs_node: true,
            more: json!({
                "name": "Cat",
                "icon": "mdi:cat",
                "event_types": CONTEXTS,
                "state_topic": names.topic("event"),
            }),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> MqttConfig {
        toml::from_str("url = \"mqtt://broker\"").unwrap()
    }

    /// The names of a node that is known by its URL.
    fn names(url: &str, cat: Option<(&str, bool)>) -> Names {
        Names::new(&config(), &id_of(&KnownBy::Url(url.into())), url, cat)
    }

    #[test]
    fn node_that_is_known_by_its_id_is_one_device_under_any_url() {
        let id = id_of(&KnownBy::Id("0123456789abcdef".repeat(4)));
        let of = |url| configs(&config(), &Names::new(&config(), &id, url, Some(("Tom", true))), None);
        assert_eq!(of("http://kitchen:1"), of("http://10.0.0.7:1"));
        assert_eq!(
            of("http://kitchen:1")[0].0,
            "homeassistant/binary_sensor/meowlink_0123456789abcdef/connection/config"
        );
    }

    #[test]
    fn node_is_one_device_with_ids_of_its_own() {
        let of = |node: &str| configs(&config(), &names(node, None), Some("http://hub:5000"));
        let (kitchen, attic) = (of("http://kitchen-pi:50056"), of("http://10.0.0.7:50056"));
        assert_eq!(kitchen[0].0, "homeassistant/binary_sensor/meowlink_kitchen-pi_50056/connection/config");
        assert_eq!(attic[0].0, "homeassistant/binary_sensor/meowlink_10_0_0_7_50056/connection/config");
        let ids: std::collections::HashSet<_> =
            kitchen.iter().chain(&attic).map(|(_, config)| config["unique_id"].to_string()).collect();
        assert_eq!(ids.len(), kitchen.len() + attic.len());
        for (topic, config) in &kitchen {
            assert_eq!(config["device"]["identifiers"], json!(["meowlink_kitchen-pi_50056"]), "{topic}");
            assert_eq!(config["device"]["configuration_url"], "http://hub:5000");
            assert_eq!(config["availability"][0]["topic"], "meowlink/status", "{topic}");
        }
    }

    #[test]
    fn entities_have_ids_that_home_assistant_accepts() {
        let names = names("http://Kitchen-Pi.local:50056", None);
        for (topic, payload) in configs(&config(), &names, None) {
            assert_eq!(payload.get("object_id"), None, "gone since Home Assistant 2026.4");
            let component = topic.split('/').nth(1).unwrap();
            let object = topic.split('/').nth(3).unwrap();
            let expected = format!("{component}.meowlink_kitchen_pi_local_50056_{object}");
            assert_eq!(payload["default_entity_id"], expected);
            // Devices that exist keep their ids.
            assert_eq!(payload["unique_id"], format!("meowlink_Kitchen-Pi_local_50056_{object}"));
        }
    }

    #[test]
    fn device_has_the_name_of_the_cat() {
        let name = |cat| {
            let names = names("http://anna:secret@kitchen:1", cat);
            assert_eq!(names.id(), "kitchen_1");
            configs(&config(), &names, None)[0].1["device"]["name"].as_str().unwrap().to_owned()
        };
        assert_eq!(name(Some(("Tom", true))), "Tom's cat-node");
        assert_eq!(name(Some(("Tom", false))), "Tom's cat-node (kitchen:1)");
        assert_eq!((name(None), name(Some(("", true)))), ("Cat node kitchen:1".into(), "Cat node kitchen:1".into()));
    }

    #[test]
    fn contexts_are_those_of_the_detector() {
        let words = sound::detection::ContextLabel::ALL.map(|label| label.as_str());
        assert_eq!(words, CONTEXTS);
    }
}
