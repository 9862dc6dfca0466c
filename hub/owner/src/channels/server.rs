//! The server of a channel, as the config gives it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use daemon::config::Secret;

/// A server by its URL. A name and a password in the URL are taken out of it and sent as HTTP Basic authentication.
#[derive(Debug, Clone)]
pub(super) struct Server {
    url: String,
    /// Value of the header `Authorization`.
    login: Option<Secret>,
}

impl Server {
    /// The server with this checked URL.
    pub(super) fn new(url: &str) -> Self {
        let without = || Self { url: url.to_owned(), login: None };
        let Some((scheme, rest)) = url.split_once("://") else { return without() };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let Some((login, host)) = authority.rsplit_once('@') else { return without() };
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let plain = [&decoded(user)[..], b":", &decoded(password)].concat();
        let login = Secret::new(format!("Basic {}", STANDARD.encode(plain)));
        Self { url: format!("{scheme}://{host}{path}"), login: Some(login) }
    }

    /// The URL without name and password.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The header with name and password.
    pub(super) fn login(&self) -> Option<(&'static str, String)> {
        self.login.as_ref().map(|login| ("authorization", login.expose().to_owned()))
    }
}

/// A part of a URL without its percent signs.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        let code = code.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_password_are_sent_as_basic_and_shown_nowhere() {
        // printf 'anna:p@ss:w%%' | base64, and so on
        for (url, clean, login) in [
            ("http://host:1/a?b=c@d", "http://host:1/a?b=c@d", None),
            ("https://user:pass@host:1/x", "https://host:1/x", Some("Basic dXNlcjpwYXNz")),
            ("http://anna:p%40ss:w%25@[::1]:1", "http://[::1]:1", Some("Basic YW5uYTpwQHNzOncl")),
            ("http://anna@host?x", "http://host?x", Some("Basic YW5uYTo=")),
        ] {
            let server = Server::new(url);
            assert_eq!((server.url(), server.login().map(|(_, value)| value).as_deref()), (clean, login), "{url}");
            assert!(!format!("{server:?}").contains("dXNl"), "{server:?}");
        }
    }
}
