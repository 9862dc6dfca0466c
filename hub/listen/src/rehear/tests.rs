use hub_store::Access;
use hub_store::clips::{ClipFormat, ClipsConfig, Cut};
use hub_store::events::{NewEvent, NoClip, OwnerLabel};
use hub_store::testing::{as_if_another_network_heard, event, put_with};
use sound::detection::ContextLabel;

use super::*;

const ROLL: u64 = 8_000;

fn recorded(name: &str) -> Vec<i16> {
    let path = format!("{}/../../sound/tests/clips/{name}.wav", env!("CARGO_MANIFEST_DIR"));
    hound::WavReader::open(path).unwrap().into_samples().map(Result::unwrap).collect()
}

struct Home {
    dir: tempfile::TempDir,
    store: Store,
    clips: Clips,
}

impl Home {
    async fn open() -> Self {
        Self::open_as(ClipFormat::Wav).await
    }

    async fn open_as(format: ClipFormat) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let config = ClipsConfig { format, reserve_mb: 0, ..ClipsConfig::default() };
        let clips = Clips::open(dir.path(), config, store.clone()).await.unwrap();
        Self { dir, store, clips }
    }

    /// Stores an event with its clip. The event lies at `place` in the clip.
    async fn put(&self, node: &str, start_sample: u64, clip: Option<&[i16]>, place: Range<u64>) -> Event {
        let length = place.end - place.start;
        let found = NewEvent { end_sample: start_sample + length, ..event(node, start_sample) };
        let clip = match clip {
            Some(samples) => {
                let cut = Cut { boot_id: 1, start_sample: start_sample - place.start, samples: samples.to_vec() };
                self.clips.keep(cut, &found).await
            }
            None => Err(NoClip::Disabled),
        };
        put_with(&self.store, found, clip).await
    }

    async fn label(&self, event: &Event) -> Event {
        let label = Some(OwnerLabel::Context(ContextLabel::Isolation));
        self.store.label_event(event.id, label).await.unwrap().unwrap()
    }

    async fn labels(&self) -> u32 {
        self.store.household("Tom").await.unwrap().labels()
    }
}

#[tokio::test]
async fn labels_go_on_teaching_after_an_update() {
    let home = Home::open().await;
    let (meow, place) = (recorded("meow_alone"), ROLL..ROLL + 12_000);
    let count = BATCH + 3;
    for n in 1..=count as u64 {
        home.label(&home.put("kitchen", n * 100_000, Some(&meow), place.clone()).await).await;
    }
    for clip in [Some(&[0; 32_000][..]), None] {
        home.label(&home.put("hall", 100_000 + clip.map_or(0, |_| 50_000), clip, place.clone()).await).await;
    }
    let later = home.put("attic", 100_000, Some(&meow), place.clone()).await;
    assert_eq!(home.labels().await as usize, count + 2);
    as_if_another_network_heard(&home.store, i64::MAX).await;
    assert_eq!(home.labels().await, 0);
    let damaged = hub_store::events::Clip { samples: 5, ..later.clip.clone().unwrap() };
    home.label(&put_with(&home.store, event("cellar", 100_000), Ok(damaged)).await).await;
    as_if_another_network_heard(&home.store, i64::MAX).await;
    let judged = home.put("attic", 900_000, None, place.clone()).await;

    let counted = Reheard { again: count, lost: 2, unread: 0 };
    assert_eq!(all(&home.store, &home.clips).await.unwrap(), counted);
    assert_eq!(home.labels().await as usize, count);
    let as_stored = home.store.event(judged.id).await.unwrap().unwrap();
    assert_eq!(as_stored.context_labels, 0, "a stored event stays as it is");
    assert_eq!(all(&home.store, &home.clips).await.unwrap(), Reheard::default(), "once");

    // One that is labelled after the update.
    let labelled = home.label(&later).await;
    assert_eq!(home.labels().await as usize, count);
    rehear_labelled(&home.store, &home.clips, &labelled).await.unwrap();
    assert_eq!(home.labels().await as usize, count + 1);
}

#[tokio::test]
async fn false_alarms_go_on_teaching_after_an_update() {
    let home = Home::open().await;
    let (meow, place) = (recorded("meow_alone"), ROLL..ROLL + 12_000);
    let mut labelled = Vec::new();
    for n in 1..=3 {
        let heard = home.put("kitchen", n * 100_000, Some(&meow), place.clone()).await;
        labelled.push(home.store.label_event(heard.id, Some(OwnerLabel::NotACat)).await.unwrap().unwrap());
    }
    as_if_another_network_heard(&home.store, labelled[2].id).await;
    assert_eq!(all(&home.store, &home.clips).await.unwrap(), Reheard { again: 2, lost: 0, unread: 0 });
    let features_of = async |event: &Event| home.store.event(event.id).await.unwrap().unwrap().found.features;
    assert!(features_of(&labelled[0]).await.is_some() && features_of(&labelled[1]).await.is_some());

    // One that is labelled after the update.
    as_if_another_network_heard(&home.store, labelled[1].id).await;
    let event = home.store.event(labelled[0].id).await.unwrap().unwrap();
    rehear_labelled(&home.store, &home.clips, &event).await.unwrap();
    assert!(features_of(&labelled[0]).await.is_some());
}

#[tokio::test]
async fn damaged_and_missing_clips_end_nothing_and_a_missing_one_is_tried_again() {
    let home = Home::open_as(ClipFormat::Flac).await;
    let (meow, place) = (recorded("meow_alone"), ROLL..ROLL + 12_000);
    let mut paths = Vec::new();
    for n in 1..=3 {
        let event = home.put("kitchen", n * 100_000, Some(&meow), place.clone()).await;
        home.label(&event).await;
        paths.push(home.dir.path().join("clips").join(event.clip.unwrap().file));
    }
    as_if_another_network_heard(&home.store, i64::MAX).await;
    std::fs::write(&paths[2], &std::fs::read(&paths[2]).unwrap()[..1_000]).unwrap();
    let away = home.dir.path().join("away");
    std::fs::rename(&paths[1], &away).unwrap();
    let rehear = || async { all(&home.store, &home.clips).await.unwrap() };
    assert_eq!(rehear().await, Reheard { again: 1, lost: 1, unread: 1 });
    assert_eq!(rehear().await, Reheard { again: 0, lost: 0, unread: 1 });
    std::fs::rename(&away, &paths[1]).unwrap();
    assert_eq!(rehear().await, Reheard { again: 1, lost: 0, unread: 0 });
    assert_eq!(home.labels().await, 2);
}

#[test]
fn the_sound_of_the_event_is_heard_and_not_its_neighbour() {
    let (food, alone) = (recorded("meow_food"), recorded("meow_alone"));
    let heard = |samples: &[i16], place: Range<u64>| hear(samples, &place, -60.0);
    let (first, second) = (food.len() as u64, (food.len() + alone.len()) as u64);
    let both = [&food[..], &alone].concat();
    let embedding = |features: Option<Features>| features.unwrap().embedding;
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
    let [own_first, own_second] = [&food, &alone].map(|meow| embedding(heard(meow, 4_000..meow.len() as u64 - 4_000)));
    let at_second = embedding(heard(&both, first + 4_000..second - 4_000));
    assert!(distance(&at_second, &own_second) < 0.2 * distance(&at_second, &own_first));
    // Its own sound is not in the clip; a neighbour is.
    let silence = vec![0; 32_000];
    assert_eq!(heard(&[&food[..], &silence].concat(), first + 8_000..first + 20_000), None);
    // The clip ends within the sound.
    assert!(heard(&alone, 4_000..alone.len() as u64 + 16_000).is_some());
}
