//! The config files that go along with a backup: with their secrets, or without.

use std::collections::HashSet;
use std::path::Path;

use daemon::config::{ConfigError, mask_passwords, schema};
use hub_store::backup::ConfigFile;
use serde_json::Value as Schema;
use toml::{Table, Value};

use crate::config::HubSettings;

/// Stands where a secret was.
const LEFT_OUT: &str = "***";

/// The first lines of a config file without its secrets.
const HEADER: &str =
    "# A copy by `hub backup`. Comments were left out, and each secret is \"***\": fill them in again.\n";

/// Within the channels of owners, these are secrets too: whoever knows the URL of a chat room or the topic of a push
/// service can write to it, or read it.
const SECRET_IN_CHANNELS: [&str; 2] = ["url", "topic"];

/// The key of the channels of an owner.
const CHANNELS: &str = "channels";

/// Copies of a config file and, with secrets, of the files with secrets that it names. None, without a config file.
///
/// # Errors
/// If the file cannot be read, or is not TOML.
pub fn config_copies(file: Option<&Path>, with_secrets: bool) -> Result<Vec<ConfigFile>, ConfigError> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let read = |source| ConfigError::Read { path: file.to_path_buf(), source };
    let text = std::fs::read_to_string(file).map_err(read)?;
    let name = file.file_name().map_or_else(|| "hub.toml".into(), |name| name.to_string_lossy().into_owned());
    // What is wrong is not said, because the line may hold a secret.
    let mut table: Table = text.parse().map_err(|_| ConfigError::Parse {
        path: file.to_path_buf(),
        message: "is not TOML; `hub config show` says where".into(),
    })?;
    if with_secrets {
        let mut copies = vec![ConfigFile { name, content: text.into_bytes() }];
        secret_files(&Value::Table(table), &mut copies);
        return Ok(copies);
    }
    let mut secrets = HashSet::new();
    passwords(&schema::<HubSettings>(), &mut secrets);
    leave_out(&mut table, &secrets, false);
    let content = format!("{HEADER}{table}").into_bytes();
    Ok(vec![ConfigFile { name, content }])
}

/// Collects the names of the settings whose type is a secret.
fn passwords(schema: &Schema, found: &mut HashSet<String>) {
    match schema {
        Schema::Object(object) => {
            if let Some(Schema::Object(properties)) = object.get("properties") {
                let is_secret = |property: &Schema| has_format_password(property);
                found.extend(properties.iter().filter(|(_, one)| is_secret(one)).map(|(name, _)| name.clone()));
            }
            object.values().for_each(|inner| passwords(inner, found));
        }
        Schema::Array(all) => all.iter().for_each(|inner| passwords(inner, found)),
        _ => {}
    }
}

/// Whether a property is a secret, or one that may be left out.
fn has_format_password(property: &Schema) -> bool {
    let choices = ["anyOf", "oneOf"].into_iter().filter_map(|key| property[key].as_array()).flatten();
    property["format"] == "password" || choices.into_iter().any(|choice| choice["format"] == "password")
}

fn leave_out(table: &mut Table, secrets: &HashSet<String>, in_channel: bool) {
    for (key, value) in table.iter_mut() {
        if secrets.contains(key) || in_channel && SECRET_IN_CHANNELS.contains(&key.as_str()) {
            *value = Value::String(LEFT_OUT.into());
        } else {
            leave_out_below(value, secrets, in_channel || key == CHANNELS);
        }
    }
}

fn leave_out_below(value: &mut Value, secrets: &HashSet<String>, in_channel: bool) {
    match value {
        Value::Table(table) => leave_out(table, secrets, in_channel),
        Value::Array(values) => values.iter_mut().for_each(|one| leave_out_below(one, secrets, in_channel)),
        Value::String(text) => *text = mask_passwords(text).into_owned(),
        _ => {}
    }
}

/// Takes along the files that settings such as `token_file` name, if they can be read.
fn secret_files(value: &Value, copies: &mut Vec<ConfigFile>) {
    match value {
        Value::Table(table) => {
            for (key, inner) in table {
                if let (true, Some(file)) = (key.ends_with("_file"), inner.as_str()) {
                    let name = Path::new(file).file_name().map(|name| name.to_string_lossy().into_owned());
                    if let (Some(name), Ok(content)) = (name, std::fs::read(file)) {
                        // Two files of the same name are in different folders.
                        let taken = copies.iter().any(|copy| copy.name == name);
                        let name = if taken { format!("{}-{name}", copies.len()) } else { name };
                        copies.push(ConfigFile { name, content });
                    }
                }
                secret_files(inner, copies);
            }
        }
        Value::Array(values) => values.iter().for_each(|one| secret_files(one, copies)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_has_no_secret_unless_it_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("ntfy.token");
        std::fs::write(&token, "pst-in-a-file").unwrap();
        let text = format!(
            "# password = \"pst-in-a-comment\"\nnode = [\"Tom=http://anna:pst1@kitchen:50056\"]\nmax_analyses = 7\n\
             [[owners]]\nname = \"Anna\"\n[[owners.channels]]\ntype = \"webhook\"\nname = \"a\"\n\
             url = \"https://discord.example/pst2\"\nsecret = \"pst3\"\n\
             [[owners.channels]]\ntype = \"ntfy\"\ntopic = \"pst4\"\ntoken_file = {token:?}\n\
             [mqtt]\nurl = \"mqtt://anna:pst5@broker\"\npassword = \"pst6\"\n"
        );
        let file = dir.path().join("hub.toml");
        std::fs::write(&file, &text).unwrap();
        let copies = config_copies(Some(&file), false).unwrap();
        let copy = String::from_utf8(copies[0].content.clone()).unwrap();
        assert!(copies.len() == 1 && !copy.contains("pst"), "{copy}");
        let back: Table = copy.parse().unwrap();
        assert_eq!(back["max_analyses"].as_integer(), Some(7));
        assert_eq!(back["owners"][0]["channels"][1]["token_file"].as_str(), token.to_str());

        let copies = config_copies(Some(&file), true).unwrap();
        assert_eq!(copies[0].content, text.as_bytes());
        assert_eq!((copies[1].name.as_str(), copies[1].content.as_slice()), ("ntfy.token", &b"pst-in-a-file"[..]));
        assert_eq!(config_copies(None, false).unwrap(), []);
    }

    #[test]
    fn error_does_not_say_what_the_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hub.toml");
        std::fs::write(&file, "token = \"pst").unwrap();
        let error = config_copies(Some(&file), false).unwrap_err().to_string();
        assert!(error.contains("hub.toml") && !error.contains("pst"), "{error}");
    }
}
