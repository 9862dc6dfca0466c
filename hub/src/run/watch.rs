//! Starts metrics, discovery, the regular checks of the nodes, and the watchdog.

use std::time::Duration;

use daemon::pairing::PairingSecret;
use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use daemon::systemd;
use hub_base::clock;
use hub_base::role::Role;
use hub_nodes::discover::discover;
use hub_store::backup::Backups;
use hub_store::{Store, StoreError};
use hub_watch::metrics::Parts;
use hub_watch::troubles::Troubles;
use hub_watch::{rounds, secret};
use tracing::{info, warn};

use super::analysis::Analysis;
use super::listening::Audio;
use super::shared::Shared;

/// How often the same failure of the store is logged by the watchdog's task.
const WATCHDOG_LOG_PERIOD: Duration = Duration::from_secs(600);

/// How long the lookup of a configured name may take.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(10);

/// Starts these tasks, as far as the roles of this process need them.
pub(super) fn start(shared: &Shared, analysis: &Analysis, audio: &Audio, backups: Option<Backups>) {
    let (config, nodes, stop) = (&shared.config, &shared.nodes, &shared.stop);
    shared.metrics.look_at(Parts {
        nodes: shared.hears_or_shows().then(|| nodes.clone()),
        live: audio.live(),
        store: shared.store.clone(),
        clips: audio.clips.clone(),
        backups,
        analyses: analysis.service.clone(),
        outbox: shared.outbox.clone(),
        mqtt: shared.mqtt.clone(),
        health: config.health.clone(),
    });
    if shared.hears_or_shows() {
        let (known, stopped) = (nodes.clone(), stop.clone());
        shared.tasks.spawn(async move { known.keep_described(&stopped).await });
        if let Some(admission) = shared.admission.clone() {
            let known = config.pairing_secret.as_ref().and_then(|secret| PairingSecret::new(secret).ok());
            // One process pairs: the one that listens.
            if let Some(known) = known.filter(|_| config.has(Role::Analysis)) {
                shared.tasks.spawn(secret::pair(admission.clone(), known, stop.clone()));
            }
            shared.tasks.spawn(admission.follow(stop.clone()));
        }
        if config.discover.is_on() {
            shared.tasks.spawn(discover(nodes.clone(), stop.clone()));
        } else {
            let urls = config.node.iter().map(|node| node.url.to_string()).collect();
            shared.tasks.spawn(hint_at_local_names(urls, stop.clone()));
        }
    }
    if config.has(Role::Analysis) {
        let troubles = shared.outbox.clone().map(|outbox| Troubles::new(outbox, &config.health));
        let (nodes, health) = (nodes.clone(), config.health.clone());
        shared.tasks.spawn(rounds::watch(nodes, audio.live(), health, troubles, stop.clone()));
    }
    if let Some(store) = shared.store.clone().filter(|_| config.has(Role::Analysis)) {
        shared.tasks.spawn(watch_clock(store, stop.clone()));
    }
    shared.tasks.spawn(feed_watchdog(shared.store.clone(), stop.clone()));
}

/// Says what to do about configured names in `.local` that the system cannot resolve: without discovery, the hub does
/// not look them up by mDNS.
async fn hint_at_local_names(urls: Vec<String>, stop: CancellationToken) {
    for node in urls {
        let Some(host) = local_name_in(&node) else { continue };
        let looked_up = tokio::time::timeout(LOOKUP_DEADLINE, tokio::net::lookup_host((host, 0)));
        let is_found = tokio::select! {
            found = looked_up => matches!(found, Ok(Ok(_))),
            () = stop.cancelled() => return,
        };
        if !is_found {
            let advice = "write its address instead, or turn discover on";
            warn!(
                node = node.as_str(),
                "the system cannot resolve the name of this node, and discover is false; {advice}"
            );
        }
    }
}

/// The name of the machine in a URL, if it ends in `.local`.
fn local_name_in(url: &str) -> Option<&str> {
    let authority = url.split_once("://")?.1.split('/').next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host.to_ascii_lowercase().trim_end_matches('.').ends_with(".local").then_some(host)
}

/// Looks at the wall clock, so that jumps and `hub clock accept` are noticed, and says what is thought of it.
async fn watch_clock(store: Store, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(clock::LOOK_PERIOD);
    let mut last = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let standing = store.clock().look();
        if last.replace(std::mem::discriminant(&standing)) == Some(std::mem::discriminant(&standing)) {
            continue;
        }
        store.clock().write_state(standing);
        if standing.is_plausible() {
            info!(clock = %standing, "old events and clips are deleted by age");
        } else {
            warn!(clock = %standing, "deletion by age is paused until the clock is right; see `hub clock`");
        }
    }
}

/// Feeds systemd's watchdog while the store accepts writes, because a restart may help a hub that cannot store. It does
/// not help against a full disk, and would take away the page and `/readyz`, which say so: then the dog is fed too.
async fn feed_watchdog(store: Option<Store>, stop: CancellationToken) {
    let Some(interval) = systemd::watchdog_interval() else { return };
    let mut log = Quiet::new(WATCHDOG_LOG_PERIOD);
    loop {
        let failure = match &store {
            Some(store) => store.check().await.err(),
            None => None,
        };
        if failure.as_ref().is_none_or(StoreError::is_disk_full) {
            systemd::feed_watchdog();
        }
        match failure {
            None => log.reset(),
            Some(error) => {
                if log.allow().is_some() {
                    warn!(%error, "the store does not accept writes");
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mdns_would_resolve_are_told_from_others() {
        for (url, host) in [
            ("http://kitchen.local:50056", Some("kitchen.local")),
            ("http://anna:***@Kitchen.LOCAL:1/", Some("Kitchen.LOCAL")),
            ("http://kitchen.local", Some("kitchen.local")),
            ("http://kitchen.local.example.org:1", None),
            ("http://192.168.1.7:50056", None),
            ("http://[fd00::7]:50056", None),
        ] {
            assert_eq!(local_name_in(url), host, "{url}");
        }
    }
}
