//! The client identifier: a broker closes the connection of a client when another one comes with the same identifier.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// File in the data folder with the identifier of this hub.
const FILE: &str = "mqtt-client-id";

/// Begin of the identifiers that the hub draws.
const PREFIX: &str = "meowlink";

/// Random hexadecimal digits of an identifier. With the prefix and the suffix it has 23 letters and digits, the most
/// that every broker of MQTT 3.1.1 must accept.
const DIGITS: usize = 10;

/// Suffix of the process that only notifies owners, if the hub is split into processes.
const OWNER_SUFFIX: &str = "owner";

/// The identifier of this process: that of the config, or the one that is kept in the data folder.
///
/// # Errors
/// If the identifier cannot be read or kept.
pub(super) fn of(configured: Option<&str>, data_dir: &Path, speaks_for_the_hub: bool) -> Result<String, String> {
    match configured {
        Some(id) if speaks_for_the_hub => Ok(id.to_owned()),
        Some(id) => Ok(format!("{id}-owner")),
        None => {
            let path = data_dir.join(FILE);
            let id =
                kept(&path).map_err(|why| format!("cannot keep the client identifier in {}: {why}", path.display()))?;
            Ok(if speaks_for_the_hub { id } else { id + OWNER_SUFFIX })
        }
    }
}

/// Reads the identifier, or draws one. If two processes draw one at the same time, both get that of the first.
fn kept(path: &Path) -> io::Result<String> {
    if let Some(id) = read(path)? {
        return Ok(id);
    }
    let digits = format!("{:032x}", rand::random::<u128>());
    let id = format!("{PREFIX}{}", &digits[..DIGITS]);
    // Linked into place once it is complete: a reader sees all of it, or no file.
    let draft = path.with_extension(&digits);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let linked = file.write_all(id.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| {
        match fs::hard_link(&draft, path) {
            // An unreadable one is replaced.
            Err(why) if why.kind() == ErrorKind::AlreadyExists && read(path)?.is_none() => fs::rename(&draft, path),
            Err(why) if why.kind() != ErrorKind::AlreadyExists => fs::rename(&draft, path),
            _ => Ok(()),
        }
    });
    // After a rename there is nothing left to remove.
    let _ = fs::remove_file(&draft);
    linked?;
    Ok(read(path)?.unwrap_or(id))
}

/// The identifier in a file. `None`: there is no file, or no identifier in it.
fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let id = text.trim();
            let is_id = id.len() == PREFIX.len() + DIGITS && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
            Ok(is_id.then(|| id.to_owned()))
        }
        Err(why) if matches!(why.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
        Err(why) => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_data_folder_has_its_own_identifier_that_stays_and_that_every_broker_accepts() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let id = of(None, one.path(), true).unwrap();
        assert_eq!(of(None, one.path(), true).unwrap(), id);
        assert_ne!(of(None, other.path(), true).unwrap(), id);
        let of_owner = of(None, one.path(), false).unwrap();
        assert_ne!(of_owner, id);
        for id in [&id, &of_owner] {
            assert!(rumqttc::is_mqtt_minimum_client_id(id), "{id}");
        }
        assert_eq!(fs::read_dir(one.path()).unwrap().count(), 1, "no draft is left");
        fs::write(one.path().join(FILE), [0xff, 0]).unwrap();
        let new = of(None, one.path(), true).unwrap();
        assert_eq!(of(None, one.path(), true).unwrap(), new);
    }

    #[test]
    fn identifier_of_the_config_is_used_as_it_is() {
        let nowhere = Path::new("/nonexistent");
        assert_eq!(of(Some("cats at home"), nowhere, true).unwrap(), "cats at home");
        assert_eq!(of(Some("cats"), nowhere, false).unwrap(), "cats-owner");
        assert!(of(None, nowhere, true).unwrap_err().contains("/nonexistent/mqtt-client-id"));
    }
}
