//! Checks of values that several tables of the config file have.

use daemon::config::{ConfigError, mask_passwords};

/// Checks a URL of HTTP.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    let shown = mask_passwords(url);
    let parsed: http::Uri = url.parse().map_err(|why| format!("{shown:?} is not a URL: {why}"))?;
    match (parsed.scheme_str(), parsed.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(()),
        _ => Err(format!("{shown:?} is not a URL of the form http://HOST or https://HOST")),
    }
}

/// Whether a URL contains a user name or a password.
pub(super) fn has_login(url: &str) -> bool {
    url.parse().is_ok_and(|url: http::Uri| url.authority().is_some_and(|authority| authority.as_str().contains('@')))
}

/// Checks a topic of MQTT that the hub publishes to.
pub(super) fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() || topic.len() > 1_000 || topic.contains(['+', '#', '\0']) {
        return Err(format!("{topic:?} is not a topic to publish to: it is empty, too long, or contains + or #"));
    }
    Ok(())
}

/// Checks that the value of a key is within 1 to `most`.
pub(super) fn check_within(key: &str, value: u32, most: u32) -> Result<(), ConfigError> {
    let why = || ConfigError::value(key, format!("{value} is not within 1 to {most}"));
    if (1..=most).contains(&value) { Ok(()) } else { Err(why()) }
}
