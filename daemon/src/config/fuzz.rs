//! Config files with any mistake: the error says where it is, and never shows a secret.

use fuzzing::{hold, nearly_text};
use proptest::prelude::*;

use super::tests::all_layers;

/// Has letters that no key, value or message has.
const SECRET: &str = "QZJQXZQ";

const FILE: &str = r#"# A comment
http = ["127.0.0.1:5000", "[::1]:5000"]
cats = ["Tom", "Ada"]
gain_db = -3.5
discover = true
log_format = "text"

[clips]
pre_roll_ms = 500
public_url = "https://anna:QZJQXZQ@cats.example"

[mqtt]
url = "mqtt://anna:QZJQXZQ@broker:1883"
port = 1883
password = "QZJQXZQ"

[[owners]]
name = "Anna"
channels = [{ type = "webhook", url = "https://u:QZJQXZQ@h", secret = "QZJQXZQ" }, { type = "log" }]
"#;

#[test]
fn error_has_the_place_and_shows_no_secret() {
    let words =
        ["\n", "\"", "'", "\"\"\"", "[", "]]", "{", "=", "#", "\\", "99999999999999999999", "nan", "password = "];
    let seeds = [FILE, &FILE[FILE.find("[mqtt]").unwrap()..]];
    hold(300, &nearly_text(&seeds, &words), |text| {
        match all_layers(&text, &[], &[]) {
            Ok(loaded) => {
                let shown = format!("{:?}", loaded.settings.mqtt.map(|broker| broker.password));
                // A key of this name may have been made a value of another.
                prop_assert!(!shown.contains(SECRET), "{shown}");
            }
            Err(error) => {
                let said = error.to_string();
                prop_assert!(said.contains(".toml"), "the error names the file: {said}");
                // A mutation can move the secret into a key that is not secret. A file that cannot be read at all shows
                // none of it, and no URL shows its password.
                prop_assert!(!said.contains("not valid TOML") || !said.contains(SECRET), "{said}");
                let masked = crate::config::mask_passwords(&said).into_owned();
                prop_assert!(masked == said || said.contains("unknown key"), "{said}");
            }
        }
        Ok(())
    });
}

#[test]
fn url_in_the_place_of_a_type_is_shown_without_its_password() {
    let said = all_layers(&FILE.replace("type = \"webhook\", url", "type"), &[], &[]).unwrap_err().to_string();
    assert!(said.contains("channels.https://u:***@h.type: is not one of log, webhook"), "{said}");
}
