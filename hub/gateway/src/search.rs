//! The search domains of this machine. A home router gives them to all its machines, and gives each machine a name in
//! them, such as `hub.fritz.box`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where the system keeps them.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Most bytes that are read of that file. Search domains beyond that do not count.
const MAX_BYTES: u64 = 64 << 10;

/// Most search domains that count. The resolver of glibc takes any number, and older ones took six.
const MAX_DOMAINS: usize = 32;

/// Endings of names that do not exist in the public DNS: from RFC 6761, 6762 and 8375, ICANN's `internal`, and common
/// defaults of home routers.
pub(super) const HOME_ENDINGS: [&str; 7] =
    ["localhost", "local", "internal", "home.arpa", "home", "lan", "localdomain"];

/// How long the file counts as known. It changes when the machine joins another network.
const HOLDS: Duration = Duration::from_secs(30);

/// The search domains, read again when they are asked for. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct SearchDomains {
    path: PathBuf,
    known: Arc<Mutex<Option<Known>>>,
}

/// The search domains, and when the file was read.
type Known = (Instant, Vec<String>);

impl Default for SearchDomains {
    fn default() -> Self {
        Self::of(RESOLV_CONF)
    }
}

impl SearchDomains {
    fn of(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), known: Arc::default() }
    }

    /// Whether this is the name of a machine directly below a search domain.
    pub(super) async fn have(&self, name: &str) -> bool {
        let Some((machine, domain)) = name.split_once('.') else { return false };
        !machine.is_empty() && self.domains().await.iter().any(|known| known.eq_ignore_ascii_case(domain))
    }

    async fn domains(&self) -> Vec<String> {
        let fresh = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, domains)) = fresh
            && at.elapsed() < HOLDS
        {
            return domains;
        }
        let path = self.path.clone();
        let text = tokio::task::spawn_blocking(move || text_of(&path)).await.unwrap_or_default();
        let domains = parse(&text);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), domains.clone()));
        domains
    }
}

/// The search domains of this machine, also those of one label that no public name can have, such as `lan`. Blocks.
pub(super) fn home_domains() -> Vec<String> {
    let mut domains = all_in(&text_of(Path::new(RESOLV_CONF)));
    domains.retain(|domain| domain.contains('.') || HOME_ENDINGS.contains(&domain.to_ascii_lowercase().as_str()));
    domains
}

/// A file that cannot be read has no search domains.
fn text_of(path: &Path) -> String {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text));
    read.map(|_| text).unwrap_or_default()
}

/// The domains of the last line `search` or `domain`, as the resolver takes them. A domain of one label, such as `com`,
/// does not count: anybody can have a name below some of them. The private ones among them are known anyway.
fn parse(text: &str) -> Vec<String> {
    let mut domains = all_in(text);
    domains.retain(|domain| domain.contains('.'));
    domains
}

fn all_in(text: &str) -> Vec<String> {
    let mut domains = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if matches!(words.next(), Some("search" | "domain")) {
            domains = words.take(MAX_DOMAINS).map(|domain| domain.trim_end_matches('.').to_owned()).collect();
        }
    }
    domains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_line_counts_and_single_labels_do_not() {
        assert_eq!(
            parse("search a.b\nnameserver 1.2.3.4\n search  fritz.box. lan com . my.home\n"),
            ["fritz.box", "my.home"]
        );
        assert_eq!(parse("domain my.home # mine\n"), ["my.home"]);
        assert!(parse("# search a.b\nsearch\n").is_empty());
        assert_eq!(parse(&format!("search {}", "a.b ".repeat(99))).len(), MAX_DOMAINS);
    }

    #[tokio::test]
    async fn machines_of_the_home_network_are_known_and_what_is_below_them_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let domains = SearchDomains::of(&path);
        assert!(!domains.have("hub.fritz.box").await, "there is no file");
        std::fs::write(&path, "nameserver 192.168.178.1\nsearch fritz.box\n").unwrap();
        let domains = SearchDomains::of(&path);
        for ours in ["hub.fritz.box", "HUB.Fritz.Box"] {
            assert!(domains.have(ours).await, "{ours}");
        }
        for strange in ["fritz.box", ".fritz.box", "a.hub.fritz.box", "hub.evil.example", "hubfritz.box", "hub", ""] {
            assert!(!domains.have(strange).await, "{strange}");
        }
    }
}
