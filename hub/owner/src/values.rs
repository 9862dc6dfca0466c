//! Checks of values that several tables of the config file have.

use daemon::config::mask_url;

/// Checks a URL of HTTP.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    let shown = mask_url(url);
    let parsed = daemon::url::parse(url)?;
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
