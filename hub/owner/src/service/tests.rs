use hub_store::notifications::NotificationState;
use hub_store::{Access, Store};

use super::*;

async fn notify(service: &OwnerService, animal_name: &str, animal_type: &str) -> String {
    let request = NotifyRequest { animal_name: animal_name.into(), animal_type: animal_type.into() };
    service.notify(Request::new(request)).await.unwrap().into_inner().message
}

fn outbox(store: &Store) -> Outbox {
    let toml = "name = \"Anna\"\nanimals = [\"Tom\", \"Rex\"]\n[[channels]]\ntype = \"log\"";
    Outbox::new(&[toml::from_str(toml).unwrap()], store.clone())
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Access::Keeper).unwrap();
    (dir, store)
}

#[tokio::test]
async fn answers_follow_the_contract() {
    let (_dir, store) = store();
    let (keeping, keeper) = OwnerService::keeping(outbox(&store));
    let stop = CancellationToken::new();
    let kept = tokio::spawn(keeper.run(stop.clone()));
    for service in [OwnerService::default(), keeping] {
        assert_eq!(notify(&service, "Tom", "cat").await, "Owner of Tom cat is notified");
        assert_eq!(notify(&service, "", "").await, "Owner of   is notified");
        let long = "ä".repeat(MAX_NAME_BYTES);
        assert_eq!(notify(&service, &long, "cat").await, format!("Owner of {long} cat is notified"));
    }
    stop.cancel();
    kept.await.unwrap();
}

#[tokio::test]
async fn call_is_stored_before_it_is_answered_but_not_one_of_another_owners_animal() {
    let (_dir, store) = store();
    let outbox = outbox(&store);
    let (service, keeper) = OwnerService::keeping(outbox.clone());
    let stop = CancellationToken::new();
    let kept = tokio::spawn(keeper.run(stop.clone()));
    notify(&service, "Tom", "cat").await;
    if outbox.counters().calls_late.load(Ordering::Relaxed) == 0 {
        assert_eq!(store.notifications(None, None, 9).await.unwrap().len(), 1);
    }
    notify(&service, "Ada", "cat").await;
    notify(&service, "Rex", "Dog").await;
    stop.cancel();
    kept.await.unwrap();
    let animals: Vec<_> = store.notifications(Some(NotificationState::Pending), None, 9).await.unwrap();
    let animals: Vec<_> = animals.iter().map(|notification| notification.subject.animal().to_owned()).collect();
    assert_eq!(animals, ["Rex", "Tom"]);
}

#[tokio::test]
async fn slow_store_delays_no_answer_for_long_and_lost_calls_are_counted() {
    let (_dir, store) = store();
    let outbox = outbox(&store);
    // The keeper does not run, as if the store hung.
    let (service, keeper) = OwnerService::keeping(outbox.clone());
    let many = (0..QUEUE + 5).map(|_| notify(&service, "Tom", "cat"));
    for answer in futures_util::future::join_all(many).await {
        assert_eq!(answer, "Owner of Tom cat is notified");
    }
    let counters = outbox.counters();
    assert_eq!(counters.calls_dropped.load(Ordering::Relaxed), 5);
    assert_eq!(counters.calls_late.load(Ordering::Relaxed), QUEUE as u64);
    // Once it runs, all queued calls are stored: one is sent, the cool-down suppresses the rest.
    let stop = CancellationToken::new();
    stop.cancel();
    keeper.run(stop).await;
    assert_eq!(store.notifications(None, None, 1_000).await.unwrap().len(), QUEUE);
    assert_eq!(store.notifications(Some(NotificationState::Pending), None, 1_000).await.unwrap().len(), 1);
}
