//! Starts metrics, discovery, the regular checks of the nodes, and the watchdog.

use daemon::shutdown::CancellationToken;
use daemon::systemd;
use hub_base::role::Role;
use hub_nodes::discover::discover;
use hub_store::Store;
use hub_store::backup::Backups;
use hub_watch::metrics::Parts;
use hub_watch::rounds;
use hub_watch::troubles::Troubles;
use tracing::warn;

use super::analysis::Analysis;
use super::listening::Audio;
use super::shared::Shared;

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
        if config.discover {
            shared.tasks.spawn(discover(nodes.clone(), stop.clone()));
        }
    }
    if config.has(Role::Analysis) {
        let troubles = shared.outbox.clone().map(|outbox| Troubles::new(outbox, &config.health));
        let (nodes, health) = (nodes.clone(), config.health.clone());
        shared.tasks.spawn(rounds::watch(nodes, audio.live(), health, troubles, stop.clone()));
    }
    shared.tasks.spawn(feed_watchdog(shared.store.clone(), stop.clone()));
}

/// Feeds systemd's watchdog while the store accepts writes. A hub that cannot store is useless, and a restart may help.
async fn feed_watchdog(store: Option<Store>, stop: CancellationToken) {
    let Some(interval) = systemd::watchdog_interval() else { return };
    loop {
        let alive = match &store {
            Some(store) => store.check().await,
            None => Ok(()),
        };
        match alive {
            Ok(()) => systemd::feed_watchdog(),
            Err(error) => warn!(%error, "the store does not accept writes; the watchdog is not fed"),
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
    }
}
