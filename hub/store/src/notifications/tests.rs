use std::collections::BTreeMap;

use super::*;
use crate::Store;
use crate::events::{Committed, Event, NoClip, Watermark};
use crate::testing::{event, open, put_for, put_with};

const SECOND_NS: i64 = 1_000_000_000;

fn call(animal: &str) -> Subject {
    Subject::Call { animal: animal.into(), animal_type: "cat".into(), called_at_ns: 0 }
}

fn channel(name: &str, kind: &str) -> ChannelName {
    ChannelName { name: name.into(), kind: kind.into() }
}

fn plan(owner: &str) -> NotificationPlan {
    let channels = vec![channel("phone", "ntfy"), channel("hook", "webhook")];
    NotificationPlan {
        owner: owner.into(),
        channels,
        cooldown_ns: 60 * SECOND_NS,
        hold: None,
        wait_ns: 0,
        digest_due_ns: None,
    }
}

async fn put(store: &Store, animal: &str, plan: NotificationPlan, now_ns: i64) -> PutIn {
    store.commit_notifications(vec![(call(animal), vec![plan])], now_ns).await.unwrap()
}

async fn due(store: &Store, channel: &str, now_ns: i64) -> Vec<i64> {
    store
        .due_notifications("Anna", channel, now_ns, 10)
        .await
        .unwrap()
        .iter()
        .map(|notification| notification.id)
        .collect()
}

#[tokio::test]
async fn event_and_its_notifications_are_stored_together_once() {
    let (_dir, store) = open();
    let mark = Watermark { node: "kitchen".into(), boot_id: 1, resume_sequence: 0, settled_sample: 0 };
    let commit =
        || store.commit_event(event("kitchen", 0), Err(NoClip::Disabled), mark.clone(), |_| vec![plan("Anna")]);
    let mut changed = store.outbox_changed();
    let Committed::Stored(stored) = commit().await.unwrap() else { panic!("known") };
    assert!(changed.has_changed().unwrap(), "those who deliver are woken");
    changed.mark_unchanged();
    assert_eq!(commit().await.unwrap(), Committed::KnownAlready);
    assert!(!changed.has_changed().unwrap());
    let notifications = store.notifications(None, None, 10).await.unwrap();
    assert_eq!(notifications.len(), 2, "the owner is not notified twice");
    assert_eq!(notifications[0].subject, stored.subject());
    assert_eq!(notifications[0].channel, Some(channel("hook", "webhook")));
    assert_ne!(notifications[0].key, notifications[1].key);
    assert_eq!(notifications[0].key.len(), 32);
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
    // The cool-down counts from the last notification that was sent. If it counted from suppressed ones, the owner of a
    // cat that never stops would never be notified again.
    assert!(pending(put(&store, "Tom", plan("Anna"), second(160)).await));
    // A clock that was set back silences no owner.
    assert!(pending(put(&store, "Tom", plan("Anna"), second(10)).await));
    let heard = stored_event(&store).await.subject();
    let put_in = store.commit_notifications(vec![(heard, vec![plan("Anna")])], second(161)).await.unwrap();
    assert_eq!(put_in.pending, 2, "a call does not hide an event");
    let suppressed = store.notifications(Some(NotificationState::Suppressed), None, 10).await.unwrap();
    assert_eq!(suppressed.len(), 1);
    assert_eq!((suppressed[0].reason, &suppressed[0].channel), (Some(SuppressReason::Cooldown), &None));
    let never = NotificationPlan { cooldown_ns: 0, ..plan("Anna") };
    assert!(pending(put(&store, "Tom", never, second(160)).await));
}

async fn stored_event(store: &Store) -> Event {
    put_with(store, event("kitchen", 0), Err(NoClip::Disabled)).await
}

#[tokio::test]
async fn notification_whose_time_comes_from_a_clock_that_was_ahead_is_due() {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let (_dir, store) = open();
    put(&store, "Tom", plan("Anna"), 100 * HOUR_NS).await;
    assert_eq!(due(&store, "phone", 99 * HOUR_NS).await, [0; 0], "a server may ask for an hour");
    assert_eq!(due(&store, "phone", 98 * HOUR_NS).await, [1]);
}

#[tokio::test]
async fn due_notifications_are_delivered_in_turn_until_given_up() {
    let (_dir, store) = open();
    for (animal, now_ns) in [("Tom", 1), ("Ada", 2)] {
        put(&store, animal, plan("Anna"), now_ns).await;
    }
    assert_eq!(due(&store, "phone", 2).await, [1, 3]);
    assert_eq!(due(&store, "phone", 1).await, [1]);
    let key = store.due_notifications("Anna", "phone", 1, 1).await.unwrap()[0].key.clone();
    // A failed one goes behind those that have not been tried.
    store.notification_failed(1, "it is down".into(), Some(10), 5).await.unwrap();
    assert_eq!(due(&store, "phone", 9).await, [3]);
    assert_eq!(due(&store, "phone", 10).await, [3, 1]);
    store.notification_delivered(3, 11).await.unwrap();
    store.notification_failed(1, "it is gone".into(), None, 12).await.unwrap();
    assert_eq!(due(&store, "phone", i64::MAX).await, [0; 0]);
    assert_eq!(due(&store, "hook", i64::MAX).await, [2, 4]);
    let dead = store.notifications(Some(NotificationState::Dead), None, 10).await.unwrap();
    assert_eq!((dead[0].id, dead[0].tries, dead[0].error.as_deref()), (1, 2, Some("it is gone")));
    assert_eq!(dead[0].key, key);
    let counted = store.pending_notifications().await.unwrap();
    assert_eq!(counted, [("webhook".to_owned(), 2)]);

    let (again, was_dead) = store.retry_notification(1, 100).await.unwrap().unwrap();
    assert!(was_dead && again.state == NotificationState::Pending && again.tries == 0 && again.key == key);
    assert_eq!((again.created_at_ns, again.queued_at_ns), (1, 100));
    assert_eq!(due(&store, "phone", 100).await, [1]);
    assert!(!store.retry_notification(3, 100).await.unwrap().unwrap().1, "a delivered one is not sent again");
    assert_eq!(store.retry_notification(99, 100).await.unwrap(), None);
}

#[tokio::test]
async fn forty_notifications_of_a_night_are_one_digest() {
    let (_dir, store) = open();
    let night = NotificationPlan { hold: Some(SuppressReason::QuietHours), digest_due_ns: Some(1_000), ..plan("Anna") };
    for n in 0..40 {
        put(&store, if n % 4 == 0 { "Ada" } else { "Tom" }, night.clone(), n).await;
    }
    // Of an owner who was removed from the config.
    put(&store, "Tom", NotificationPlan { owner: "Bert".into(), ..night.clone() }, 40).await;
    assert!(!store.digest_is_due(999).await.unwrap());
    assert!(store.digest_is_due(1_000).await.unwrap());
    let digest_plan = NotificationPlan { cooldown_ns: 0, ..plan("Anna") };
    let put_in = store.make_digests(vec![digest_plan.clone()], 1_000).await.unwrap();
    assert_eq!((put_in.pending, put_in.suppressed), (2, 0));
    assert_eq!(store.suppressed_notifications(), 41);
    let digests = store.due_notifications("Anna", "phone", 1_000, 10).await.unwrap();
    let of = |count| BTreeMap::from([("call".to_owned(), count)]);
    let counts = BTreeMap::from([("Ada".to_owned(), of(10)), ("Tom".to_owned(), of(30))]);
    assert_eq!(digests.len(), 1);
    assert_eq!(digests[0].subject, Subject::Digest { from_ns: 0, to_ns: 39, counts, further: 0, while_down: false });
    assert!(!store.digest_is_due(i64::MAX).await.unwrap(), "a digest is sent once");
    assert_eq!(store.make_digests(vec![digest_plan], 2_000).await.unwrap(), PutIn::default());
}

#[tokio::test]
async fn digest_counts_what_the_cooldown_suppressed_and_nothing_that_was_sent() {
    let (_dir, store) = open();
    let day = NotificationPlan { digest_due_ns: Some(1_000), ..plan("Anna") };
    for now_ns in 0..3 {
        put(&store, "Tom", day.clone(), now_ns).await;
    }
    store.make_digests(vec![NotificationPlan { cooldown_ns: 0, ..plan("Anna") }], 1_000).await.unwrap();
    let digest = store.notifications(None, None, 1).await.unwrap().remove(0);
    let Subject::Digest { counts, .. } = digest.subject else { panic!("{digest:?}") };
    assert_eq!(counts["Tom"]["call"], 2);
}

#[tokio::test]
async fn notifications_of_a_removed_channel_are_given_up() {
    let (_dir, store) = open();
    put(&store, "Tom", plan("Anna"), 1).await;
    let known = vec![("Anna".to_owned(), "phone".to_owned()), ("Bert".to_owned(), "hook".to_owned())];
    assert_eq!(store.bury_unknown(known, 5).await.unwrap(), 1);
    let dead = store.notifications(Some(NotificationState::Dead), None, 10).await.unwrap();
    assert_eq!(dead[0].channel, Some(channel("hook", "webhook")));
    assert_eq!(due(&store, "phone", 5).await, [1]);
}

#[tokio::test]
async fn old_ones_are_deleted_but_not_those_that_wait() {
    let (_dir, store) = open();
    put(&store, "Tom", plan("Anna"), 1).await;
    store.notification_delivered(1, 2).await.unwrap();
    let held = NotificationPlan { hold: Some(SuppressReason::QuietHours), digest_due_ns: Some(1_000), ..plan("Anna") };
    put(&store, "Tom", held, 3).await;
    let dropped = NotificationPlan { hold: Some(SuppressReason::DigestOnly), ..plan("Anna") };
    put(&store, "Tom", dropped, 4).await;
    assert_eq!(store.forget_notifications(4, 10).await.unwrap(), 1);
    assert_eq!(store.forget_notifications(5, 10).await.unwrap(), 1);
    let left = store.notifications(None, None, 10).await.unwrap();
    assert_eq!(left.iter().map(|notification| notification.id).collect::<Vec<_>>(), [3, 2]);
}

#[tokio::test]
async fn full_outbox_deletes_the_oldest_and_counts_those_that_were_pending() {
    let (_dir, store) = open();
    put(&store, "Tom", plan("Anna"), 1).await;
    store.notification_delivered(1, 2).await.unwrap();
    // As if that many had been stored and deleted.
    let last = MAX_NOTIFICATIONS + 1;
    store.write(move |db| Ok(db.execute("UPDATE sqlite_sequence SET seq = ?1", [last])?)).await.unwrap();
    let put_in = put(&store, "Ada", plan("Anna"), 3).await;
    assert_eq!(put_in, PutIn { pending: 2, suppressed: 0, crowded_out: 1 });
    assert_eq!(store.crowded_out_notifications(), 1);
    assert_eq!(store.notifications(None, None, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn pages_hold_every_notification_once() {
    let (_dir, store) = open();
    for n in 0..5 {
        put(&store, "Tom", NotificationPlan { cooldown_ns: 0, ..plan("Anna") }, n).await;
    }
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = store.notifications(Some(NotificationState::Pending), before, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|notification| notification.id));
    }
    assert_eq!(seen, (1..=10).rev().collect::<Vec<_>>());
}

#[tokio::test]
async fn backlog_of_a_channel_that_was_down_is_one_digest() {
    let (_dir, store) = open();
    let phone = channel("phone", "ntfy");
    let open_plan = NotificationPlan { cooldown_ns: 0, ..plan("Anna") };
    for n in 0..351 {
        put(&store, if n % 3 == 0 { "Ada" } else { "Tom" }, open_plan.clone(), n * SECOND_NS).await;
    }
    let waiting = store.due_notifications("Anna", "phone", i64::MAX, 1).await.unwrap().remove(0);
    store.notification_failed(waiting.id, "down".into(), Some(i64::MAX), SECOND_NS).await.unwrap();
    let now_ns = 1_800 * SECOND_NS;
    let put_in = store.channel_works_again("Anna", &phone, now_ns).await.unwrap();
    assert_eq!((put_in.pending, put_in.suppressed), (1, 351));
    let due = store.due_notifications("Anna", "phone", now_ns, 1_000).await.unwrap();
    let of = |count| BTreeMap::from([("call".to_owned(), count)]);
    let counts = BTreeMap::from([("Ada".to_owned(), of(117)), ("Tom".to_owned(), of(234))]);
    let (from_ns, to_ns) = (0, 350 * SECOND_NS);
    let expected = Subject::Digest { from_ns, to_ns, counts, further: 0, while_down: true };
    assert_eq!(due.iter().map(|one| &one.subject).collect::<Vec<_>>(), [&expected]);
    // The other channel works all the time.
    assert_eq!(store.due_notifications("Anna", "hook", now_ns, 1_000).await.unwrap().len(), 351);
    let held = store.notifications(Some(NotificationState::Suppressed), None, 1).await.unwrap().remove(0);
    assert_eq!((held.reason, held.channel), (Some(SuppressReason::Backlog), None));
    // A digest that waits is not put into another one.
    for n in 0..6 {
        put(&store, "Tom", open_plan.clone(), now_ns + n).await;
    }
    store.channel_works_again("Anna", &phone, 2 * now_ns).await.unwrap();
    let due = store.due_notifications("Anna", "phone", 2 * now_ns, 1_000).await.unwrap();
    assert_eq!(due.iter().filter(|one| one.subject.kind() == "digest").count(), 2);
    assert_eq!((due.len(), due[0].subject == expected), (2, true));
}

#[tokio::test]
async fn few_notifications_or_young_ones_are_no_backlog_and_are_due_at_once() {
    let (_dir, store) = open();
    let phone = channel("phone", "ntfy");
    let open_plan = NotificationPlan { cooldown_ns: 0, ..plan("Anna") };
    for n in 0..BACKLOG_OF {
        put(&store, "Tom", open_plan.clone(), n).await;
    }
    store.notification_failed(1, "busy".into(), Some(i64::MAX), 1).await.unwrap();
    let now_ns = (BACKLOG_AFTER_S + 1) * SECOND_NS;
    assert_eq!(store.channel_works_again("Anna", &phone, now_ns).await.unwrap(), PutIn::default());
    assert_eq!(due(&store, "phone", now_ns).await.len(), 5, "the one that was to wait is due too");
    for _ in 0..10 {
        put(&store, "Tom", open_plan.clone(), now_ns).await;
    }
    assert_eq!(store.channel_works_again("Anna", &phone, now_ns).await.unwrap(), PutIn::default());
}

#[tokio::test]
async fn digest_names_a_bounded_number_of_animals() {
    let (_dir, store) = open();
    let open_plan = NotificationPlan { cooldown_ns: 0, ..plan("Anna") };
    let mut calls = Vec::new();
    for n in 0..1_500 {
        calls.push((call(&format!("{n:04}")), vec![open_plan.clone()]));
        calls.push((call("Tom"), vec![open_plan.clone()]));
    }
    store.commit_notifications(calls, 0).await.unwrap();
    store.channel_works_again("Anna", &channel("phone", "ntfy"), i64::MAX).await.unwrap();
    let digest = store.due_notifications("Anna", "phone", i64::MAX, 1).await.unwrap().remove(0);
    let Subject::Digest { counts, further, .. } = digest.subject else { panic!("{digest:?}") };
    assert_eq!((counts.len(), counts["Tom"]["call"]), (MOST_ANIMALS, 1_500));
    assert_eq!(further, 1_500 - (MOST_ANIMALS as u64 - 1));
}

#[tokio::test]
async fn notification_that_is_queued_again_is_news() {
    let (_dir, store) = open();
    put(&store, "Tom", plan("Anna"), 1).await;
    store.notification_failed(1, "gone".into(), None, 2).await.unwrap();
    let mut retried = store.notification_retried();
    retried.mark_unchanged();
    put(&store, "Ada", plan("Anna"), 3).await;
    assert!(!retried.has_changed().unwrap(), "a new one is not");
    store.retry_notification(1, 4).await.unwrap();
    assert!(retried.has_changed().unwrap());
}

#[tokio::test]
async fn undelivered_notifications_of_an_event_that_was_deleted_or_no_cat_are_withdrawn() {
    for (reason, word) in [(SuppressReason::EventDeleted, "event_deleted"), (SuppressReason::NotACat, "not_a_cat")] {
        let (_dir, store) = open();
        let held =
            NotificationPlan { hold: Some(SuppressReason::QuietHours), digest_due_ns: Some(1_000), ..plan("Bert") };
        let carl = NotificationPlan { cooldown_ns: 0, ..plan("Carl") };
        let plans = vec![plan("Anna"), held.clone(), carl.clone()];
        let commit =
            async |n: u64| put_for(&store, event("kitchen", n * 16_000), Err(NoClip::Disabled), plans.clone()).await.id;
        let (first, second) = (commit(0).await, commit(1).await);
        let all = store.notifications(None, None, 20).await.unwrap();
        let of = |event, owner: &str, channel| {
            let is = |one: &&Notification| {
                one.subject.event_id() == Some(event)
                    && one.owner == owner
                    && one.channel.as_ref().map(|channel| channel.name.as_str()) == channel
            };
            all.iter().find(is).unwrap().id
        };
        // One was delivered, one was given up, one waits, and one is held back for a digest.
        let now_ns = i64::MAX - 1;
        store.notification_delivered(of(first, "Anna", Some("phone")), now_ns).await.unwrap();
        store.notification_failed(of(first, "Anna", Some("hook")), "gone".into(), None, now_ns).await.unwrap();
        let (waits, stays) = (of(first, "Carl", Some("phone")), of(second, "Carl", Some("phone")));
        let before = store.suppressed_notifications();
        match reason {
            SuppressReason::EventDeleted => _ = store.delete_event(first).await.unwrap().unwrap(),
            _ => _ = store.label_event(first, Some(crate::events::OwnerLabel::NotACat)).await.unwrap().unwrap(),
        }
        assert_eq!(store.suppressed_notifications() - before, 3, "{word}");
        let now = store.notifications(None, None, 20).await.unwrap();
        let states = |event: i64| -> Vec<_> {
            let of_event = now.iter().filter(|one| one.subject.event_id() == Some(event));
            of_event
                .map(|one| (one.owner.as_str(), one.state.as_str(), one.reason.map(SuppressReason::as_str)))
                .collect()
        };
        let withdrawn = |owner| (owner, "suppressed", Some(word));
        let expected = [withdrawn("Carl"), withdrawn("Carl"), withdrawn("Bert"), withdrawn("Anna")];
        assert_eq!(states(first), [&expected[..], &[("Anna", "delivered", None)]].concat());
        assert_eq!(store.notifications(Some(NotificationState::Dead), None, 9).await.unwrap(), []);
        assert!(!store.notification_is_pending(waits).await.unwrap());
        assert!(store.notification_is_pending(stays).await.unwrap(), "the other event is as it was");
        assert!(!store.retry_notification(waits, now_ns).await.unwrap().unwrap().1, "it is not sent again");
        // The digest counts the other event alone.
        let bert = NotificationPlan { cooldown_ns: 0, ..plan("Bert") };
        store.make_digests(vec![bert], 1_000).await.unwrap();
        let digest = store.notifications(None, None, 1).await.unwrap().remove(0);
        let Subject::Digest { counts, .. } = digest.subject else { panic!("{digest:?}") };
        assert_eq!(counts.values().flat_map(|counts| counts.values()).sum::<u64>(), 1, "{counts:?}");
    }
}

#[tokio::test]
async fn label_that_names_a_context_withdraws_nothing() {
    let (_dir, store) = open();
    let mark = Watermark { node: "kitchen".into(), boot_id: 1, resume_sequence: 0, settled_sample: 0 };
    store.commit_event(event("kitchen", 0), Err(NoClip::Disabled), mark, |_| vec![plan("Anna")]).await.unwrap();
    store.label_event(1, Some("brushing".parse().unwrap())).await.unwrap();
    store.label_event(1, None).await.unwrap();
    assert_eq!(store.notifications(Some(NotificationState::Pending), None, 9).await.unwrap().len(), 2);
}
