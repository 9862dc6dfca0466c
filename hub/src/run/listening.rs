//! Starts live listening, and opens the clips.

use hub_base::role::Role;
use hub_listen::live::News;
use hub_listen::recover::recover;
use hub_listen::rehear::rehear;
use hub_listen::{Listening, Live, Settings};
use hub_store::backup::Backups;
use hub_store::clips::Clips;
use hub_store::{Eraser, Store};

use super::RunError;
use super::shared::Shared;
use crate::homeassistant::HomeAssistant;

/// Clips and live listening, if this process has them.
#[derive(Default)]
pub(super) struct Audio {
    /// `None` if no role of this process needs clips.
    pub(super) clips: Option<Clips>,
    listening: Option<Listening>,
}

impl Audio {
    /// The live state of the nodes. `None` if this process does not listen.
    pub(super) fn live(&self) -> Option<Live> {
        self.listening.as_ref().map(|listening| listening.live().clone())
    }

    /// Starts to work off what people want deleted and moved to other nodes, in the process that owns the store and its
    /// snapshots.
    pub(super) fn start_eraser(&self, shared: &Shared, backups: Option<Backups>) {
        let (Some(clips), Some(backups)) = (self.clips.clone(), backups) else { return };
        shared.tasks.spawn(clips.store().clone().move_histories(shared.stop.clone()));
        let live = self.live();
        let on_erased = move |ids: &[i64]| {
            for id in ids {
                if let Some(live) = &live {
                    live.tell(News::Deleted { id: *id });
                }
            }
        };
        shared.tasks.spawn(Eraser::new(clips, backups, on_erased).run(shared.stop.clone()));
    }

    /// After the stop, waits until all received audio is analysed and stored.
    pub(super) async fn finish(self) {
        if let Some(listening) = self.listening {
            listening.finish().await;
        }
    }
}

/// Opens the clips and starts live listening.
pub(super) async fn start(shared: &Shared) -> Result<Audio, RunError> {
    let Some(store) = shared.store.as_ref().filter(|_| shared.hears_or_shows()) else { return Ok(Audio::default()) };
    let config = &shared.config;
    if !config.has(Role::Analysis) {
        let clips = Clips::guest(&shared.data_dir, config.clips.clone(), store.clone());
        return Ok(Audio { clips: Some(clips), listening: None });
    }
    let clips = Clips::open(&shared.data_dir, config.clips.clone(), store.clone()).await?;
    shared.tasks.spawn(recover(clips.clone(), shared.stop.clone()));
    shared.tasks.spawn(rehear(store.clone(), clips.clone(), shared.stop.clone()));
    let listening =
        if config.listen.enabled { Some(listen(shared, store.clone(), clips.clone()).await?) } else { None };
    Ok(Audio { clips: Some(clips), listening })
}

async fn listen(shared: &Shared, store: Store, clips: Clips) -> Result<Listening, RunError> {
    let config = &shared.config;
    let (listen, events) = (config.listen.clone(), config.events.clone());
    let settings = Settings { listen, detector: config.detector, events };
    let outbox = shared.outbox.clone();
    let listening = Listening::start(&settings, &shared.nodes, store.clone(), clips, outbox, &shared.stop).await?;
    if let Some(mqtt) = shared.mqtt.clone().filter(|mqtt| mqtt.config().home_assistant) {
        let (live, nodes, url) = (listening.live().clone(), shared.nodes.clone(), config.notices.public_url.clone());
        let assistant = HomeAssistant::new(mqtt, live, nodes, store, url, config.discover.is_on());
        shared.tasks.spawn(assistant.run(shared.stop.clone()));
    }
    Ok(listening)
}
