use super::*;
use crate::Access;
use crate::events::{Committed, NoClip, Watermark};
use crate::testing::event;

const SECOND_NS: i64 = 1_000_000_000;

fn call(animal: &str) -> Subject {
    Subject::Call { animal: animal.into(), animal_type: "cat".into(), called_at_ns: 0 }
}

fn plan(owner: &str) -> NoticePlan {
    let channels = vec![("phone".into(), ChannelKind::Ntfy), ("hook".into(), ChannelKind::Webhook)];
    NoticePlan { owner: owner.into(), channels, cooldown_ns: 60 * SECOND_NS, hold: None, digest_due_ns: None }
}

fn open() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    (dir, store)
}

async fn put(store: &Store, animal: &str, plan: NoticePlan, now_ns: i64) -> PutIn {
    store.commit_notices(vec![(call(animal), vec![plan])], now_ns).await.unwrap()
}

async fn due(store: &Store, channel: &str, now_ns: i64) -> Vec<i64> {
    store.due_notices("Anna", channel, now_ns, 10).await.unwrap().iter().map(|notice| notice.id).collect()
}

#[tokio::test]
async fn event_and_its_notices_are_stored_together_once() {
    let (_dir, store) = open();
    let mark = Watermark { node: "kitchen".into(), boot_id: 1, resume_sequence: 0, settled_sample: 0 };
    let commit =
        || store.commit_event(event("kitchen", 0), Err(NoClip::Disabled), mark.clone(), |_| vec![plan("Anna")]);
    let Committed::Stored(stored, put_in) = commit().await.unwrap() else { panic!("known") };
    assert_eq!(put_in, PutIn { pending: 2, suppressed: 0, crowded_out: 0 });
    assert_eq!(commit().await.unwrap(), Committed::KnownAlready);
    let notices = store.notices(None, None, 10).await.unwrap();
    assert_eq!(notices.len(), 2, "heard again, it is not told again");
    assert_eq!(notices[0].subject, Subject::of_event(&stored));
    assert_eq!(notices[0].channel, Some(("hook".into(), ChannelKind::Webhook)));
    assert_ne!(notices[0].key, notices[1].key);
    assert_eq!(notices[0].key.len(), 32);
}

#[tokio::test]
async fn cooldown_is_for_each_owner_animal_and_kind() {
    let (_dir, store) = open();
    let second = |n: i64| n * SECOND_NS;
    let pending = |put_in: PutIn| put_in.pending > 0;
    assert!(pending(put(&store, "Tom", plan("Anna"), second(100)).await));
    assert!(!pending(put(&store, "Tom", plan("Anna"), second(159)).await));
    assert!(pending(put(&store, "Ada", plan("Anna"), second(159)).await));
    assert!(pending(put(&store, "Tom", plan("Bert"), second(159)).await));
    // It counts from the alert, not from what was spared: or a cat that goes on and on would never be told of again.
    assert!(pending(put(&store, "Tom", plan("Anna"), second(160)).await));
    // A clock that was set back does not silence anybody.
    assert!(pending(put(&store, "Tom", plan("Anna"), second(10)).await));
    let heard = Subject::of_event(&stored_event(&store).await);
    let put_in = store.commit_notices(vec![(heard, vec![plan("Anna")])], second(161)).await.unwrap();
    assert_eq!(put_in.pending, 2, "a call does not hide an event");
    let spared = store.notices(Some(NoticeState::Suppressed), None, 10).await.unwrap();
    assert_eq!(spared.len(), 1);
    assert_eq!((spared[0].reason, &spared[0].channel), (Some(SuppressReason::Cooldown), &None));
    let never = NoticePlan { cooldown_ns: 0, ..plan("Anna") };
    assert!(pending(put(&store, "Tom", never, second(160)).await));
}

async fn stored_event(store: &Store) -> Event {
    let mark = Watermark { node: "kitchen".into(), boot_id: 1, resume_sequence: 0, settled_sample: 0 };
    match store.commit_event(event("kitchen", 0), Err(NoClip::Disabled), mark, |_| vec![]).await.unwrap() {
        Committed::Stored(event, _) => *event,
        Committed::KnownAlready => panic!("known"),
    }
}

#[tokio::test]
async fn channel_takes_what_is_due_in_turn_until_it_is_dead() {
    let (_dir, store) = open();
    for (animal, now_ns) in [("Tom", 1), ("Ada", 2)] {
        put(&store, animal, plan("Anna"), now_ns).await;
    }
    assert_eq!(due(&store, "phone", 2).await, [1, 3]);
    assert_eq!(due(&store, "phone", 1).await, [1]);
    let key = store.due_notices("Anna", "phone", 1, 1).await.unwrap()[0].key.clone();
    // What failed goes behind what has not been tried.
    store.notice_failed(1, "it is down".into(), Some(10), 5).await.unwrap();
    assert_eq!(due(&store, "phone", 9).await, [3]);
    assert_eq!(due(&store, "phone", 10).await, [3, 1]);
    store.notice_delivered(3, 11).await.unwrap();
    store.notice_failed(1, "it is down for good".into(), None, 12).await.unwrap();
    assert_eq!(due(&store, "phone", i64::MAX).await, [0; 0]);
    assert_eq!(due(&store, "hook", i64::MAX).await, [2, 4]);
    let dead = store.notices(Some(NoticeState::Dead), None, 10).await.unwrap();
    assert_eq!((dead[0].id, dead[0].tries, dead[0].error.as_deref()), (1, 2, Some("it is down for good")));
    assert_eq!(dead[0].key, key);
    let counted = store.pending_notices().await.unwrap();
    assert_eq!(counted, [(ChannelKind::Webhook, 2)]);

    let (again, was_dead) = store.retry_notice(1, 100).await.unwrap().unwrap();
    assert!(was_dead && again.state == NoticeState::Pending && again.tries == 0 && again.key == key);
    assert_eq!((again.created_at_ns, again.queued_at_ns), (1, 100));
    assert_eq!(due(&store, "phone", 100).await, [1]);
    assert!(!store.retry_notice(3, 100).await.unwrap().unwrap().1, "what was delivered is not sent again");
    assert_eq!(store.retry_notice(99, 100).await.unwrap(), None);
}

#[tokio::test]
async fn forty_alerts_of_a_night_are_one_digest() {
    let (_dir, store) = open();
    let night = NoticePlan { hold: Some(SuppressReason::QuietHours), digest_due_ns: Some(1_000), ..plan("Anna") };
    for n in 0..40 {
        put(&store, if n % 4 == 0 { "Ada" } else { "Tom" }, night.clone(), n).await;
    }
    // Of an owner who is gone from the config since.
    put(&store, "Tom", NoticePlan { owner: "Bert".into(), ..night.clone() }, 40).await;
    assert!(!store.digest_is_due(999).await.unwrap());
    assert!(store.digest_is_due(1_000).await.unwrap());
    let digest_plan = NoticePlan { cooldown_ns: 0, ..plan("Anna") };
    let put_in = store.make_digests(vec![digest_plan.clone()], 1_000).await.unwrap();
    assert_eq!((put_in.pending, put_in.suppressed), (2, 0));
    let told = store.due_notices("Anna", "phone", 1_000, 10).await.unwrap();
    let of = |count| BTreeMap::from([("call".to_owned(), count)]);
    let counts = BTreeMap::from([("Ada".to_owned(), of(10)), ("Tom".to_owned(), of(30))]);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].subject, Subject::Digest { from_ns: 0, to_ns: 39, counts });
    assert!(!store.digest_is_due(i64::MAX).await.unwrap(), "it is told once");
    assert_eq!(store.make_digests(vec![digest_plan], 2_000).await.unwrap(), PutIn::default());
}

#[tokio::test]
async fn what_cooled_is_in_the_digest_and_what_was_told_is_not() {
    let (_dir, store) = open();
    let day = NoticePlan { digest_due_ns: Some(1_000), ..plan("Anna") };
    for now_ns in 0..3 {
        put(&store, "Tom", day.clone(), now_ns).await;
    }
    store.make_digests(vec![NoticePlan { cooldown_ns: 0, ..plan("Anna") }], 1_000).await.unwrap();
    let digest = store.notices(None, None, 1).await.unwrap().remove(0);
    let Subject::Digest { counts, .. } = digest.subject else { panic!("{digest:?}") };
    assert_eq!(counts["Tom"]["call"], 2);
}

#[tokio::test]
async fn channel_that_is_gone_keeps_nothing_waiting() {
    let (_dir, store) = open();
    put(&store, "Tom", plan("Anna"), 1).await;
    let known = vec![("Anna".to_owned(), "phone".to_owned()), ("Bert".to_owned(), "hook".to_owned())];
    assert_eq!(store.bury_unknown(known, 5).await.unwrap(), 1);
    let dead = store.notices(Some(NoticeState::Dead), None, 10).await.unwrap();
    assert_eq!(dead[0].channel, Some(("hook".into(), ChannelKind::Webhook)));
    assert_eq!(due(&store, "phone", 5).await, [1]);
}

#[tokio::test]
async fn old_ones_are_forgotten_but_not_those_that_wait() {
    let (_dir, store) = open();
    put(&store, "Tom", plan("Anna"), 1).await;
    store.notice_delivered(1, 2).await.unwrap();
    let held = NoticePlan { hold: Some(SuppressReason::QuietHours), digest_due_ns: Some(1_000), ..plan("Anna") };
    put(&store, "Tom", held, 3).await;
    let dropped = NoticePlan { hold: Some(SuppressReason::DigestOnly), ..plan("Anna") };
    put(&store, "Tom", dropped, 4).await;
    assert_eq!(store.forget_notices(4, 10).await.unwrap(), 1);
    assert_eq!(store.forget_notices(5, 10).await.unwrap(), 1);
    let left = store.notices(None, None, 10).await.unwrap();
    assert_eq!(left.iter().map(|notice| notice.id).collect::<Vec<_>>(), [3, 2]);
}

#[tokio::test]
async fn full_outbox_loses_the_oldest_and_counts_what_waited() {
    let (_dir, store) = open();
    put(&store, "Tom", plan("Anna"), 1).await;
    store.notice_delivered(1, 2).await.unwrap();
    // As if so many had come and gone.
    let last = MAX_NOTICES + 1;
    store.write(move |db| Ok(db.execute("UPDATE sqlite_sequence SET seq = ?1", [last])?)).await.unwrap();
    let put_in = put(&store, "Ada", plan("Anna"), 3).await;
    assert_eq!(put_in, PutIn { pending: 2, suppressed: 0, crowded_out: 1 });
    assert_eq!(store.notices(None, None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn pages_hold_every_notice_once() {
    let (_dir, store) = open();
    for n in 0..5 {
        put(&store, "Tom", NoticePlan { cooldown_ns: 0, ..plan("Anna") }, n).await;
    }
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.notices(Some(NoticeState::Pending), before, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|notice| notice.id));
    }
    assert_eq!(seen, (1..=10).rev().collect::<Vec<_>>());
}
