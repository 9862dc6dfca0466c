//! File descriptors: the limit that the system sets, and the part of it that connections may use.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// As many as all connections and files of a program need. More is not asked for.
const WANTED: u64 = 4096;

/// Descriptors that are kept for the database, clips, logs, and connections to nodes, owners and brokers.
const KEPT_FOR_FILES: u64 = 192;

/// Raises the soft limit of file descriptors as far as the hard limit allows, and as far as it is useful.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(WANTED, |hard| hard.min(WANTED));
    if limit.current.is_some_and(|soft| soft < wanted)
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum })
    {
        warn!(%error, "cannot raise the limit of file descriptors");
    }
}

/// How many connections a server may have that wants `most` of them, and that gets `share` percent of the descriptors
/// that are not kept for files. At least one.
pub fn connections(most: usize, share: u64) -> usize {
    within(getrlimit(Resource::Nofile).current, most, share)
}

fn within(limit: Option<u64>, most: usize, share: u64) -> usize {
    let Some(limit) = limit else { return most };
    let shared = limit.saturating_sub(KEPT_FOR_FILES.min(limit / 2)).saturating_mul(share) / 100;
    usize::try_from(shared).map_or(most, |shared| most.min(shared)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_files() {
        assert_eq!(within(Some(4096), 512, 50), 512);
        assert_eq!(within(Some(1024), 512, 50), 416);
        assert_eq!(within(Some(64), 512, 50), 16);
        assert_eq!(within(Some(0), 512, 50), 1);
        assert_eq!(within(None, 512, 50), 512);
    }
}
