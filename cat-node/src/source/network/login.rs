//! User and password in a URL.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::source::stream_url::{FORMAT_KEYS, StreamUrl, path_secrets};

/// Passwords shorter than this are not looked for in texts: they are parts of words.
const SHORTEST_HIDDEN: usize = 3;

/// The URL to connect to, and who to log in as.
#[derive(Clone)]
pub(super) struct Login {
    /// Without user and password.
    pub(super) url: Url,
    /// User and password, decoded.
    pub(super) user: Option<(String, String)>,
}

impl Login {
    pub(super) fn of(url: &StreamUrl) -> Result<Self, String> {
        let bad = || format!("\"{url}\" is not a URL");
        Self::at(Url::parse(&url.expose()).map_err(|_| bad())?).ok_or_else(bad)
    }

    /// Takes user and password out of a URL. `None`: it cannot have any.
    fn at(mut url: Url) -> Option<Self> {
        let user = (!url.username().is_empty() || url.password().is_some())
            .then(|| (decode(url.username()), decode(url.password().unwrap_or_default())));
        url.set_password(None).ok()?;
        url.set_username("").ok()?;
        Some(Self { url, user })
    }

    /// The same user at another address, to which a server sent us. Another server learns no password, unless the
    /// address names one. `None`: the address is not that of a server.
    pub(super) fn moved(&self, url: Url) -> Option<Self> {
        let same = (url.scheme(), url.host(), url.port_or_known_default())
            == (self.url.scheme(), self.url.host(), self.url.port_or_known_default());
        let mut moved = Self::at(url)?;
        moved.user = moved.user.or_else(|| self.user.clone().filter(|_| same));
        Some(moved)
    }

    /// A text of a server without the password and the secrets of path and query.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let query = self.url.query_pairs().filter(|(key, _)| !FORMAT_KEYS.contains(&key.as_ref()));
        let query = query.map(|(_, value)| value.into_owned());
        let path = path_secrets(self.url.path()).into_iter().map(|secret| &self.url.path()[secret]);
        let path = path.flat_map(|secret| [secret.to_owned(), decode(secret)]);
        let secrets = self.user.iter().map(|(_, password)| password.clone()).chain(query).chain(path);
        for secret in secrets.filter(|secret| secret.len() >= SHORTEST_HIDDEN) {
            let encoded =
                percent_encoding::utf8_percent_encode(&secret, percent_encoding::NON_ALPHANUMERIC).to_string();
            text = text.replace(&secret, "***").replace(&encoded, "***");
        }
        text
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(text: &str) -> Login {
        Login::of(&text.parse().unwrap()).unwrap()
    }

    #[test]
    fn user_and_password_are_decoded_and_taken_out() {
        let login = login("rtsp+udp://anna:p%40ss@camera:8554/a?b=secret");
        assert_eq!(login.url.as_str(), "rtsp://camera:8554/a?b=secret");
        assert_eq!(login.user, Some(("anna".into(), "p@ss".into())));
        assert_eq!(login.hide("p@ss, p%40ss and secret"), "***, *** and ***");
    }

    #[test]
    fn secrets_of_the_path_are_hidden() {
        let login = login("rtsp://camera/user=anna&password=p%25ss&channel=1");
        assert_eq!(login.hide("anna: p%25ss, p%ss"), "anna: ***, ***");
    }

    #[test]
    fn another_server_learns_no_password() {
        let login = login("http://anna:pass@mic/a");
        let moved = |to: &str| login.moved(login.url.join(to).unwrap()).unwrap();
        let goes = |to: &str| moved(to).user.is_some();
        assert!(goes("/b") && goes("http://mic/b") && goes("http://mic:80/"));
        assert!(!goes("http://other/b") && !goes("http://mic:81/b") && !goes("https://mic/b"));
        // A server that names another user says so itself.
        let named = moved("http://tom:top%20secret@other/b");
        assert_eq!((named.url.as_str(), named.user), ("http://other/b", Some(("tom".into(), "top secret".into()))));
    }
}
