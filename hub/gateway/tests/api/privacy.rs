//! What is stored, and how everything about a cat is deleted.

use std::time::Duration;

use hub_people::UserRole;
use hub_store::Eraser;

use super::*;

impl Gateway {
    async fn delete_all(&self, body: &str) -> Answer {
        self.ask("POST", "/api/v1/deletions", &[("content-type", "application/json")], body).await
    }

    async fn deletions(&self) -> Vec<Value> {
        self.get("/api/v1/privacy").await.json()["deletions"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn privacy_names_the_settings_in_effect() {
    let gateway = Gateway::with(PageConfig { live_audio: false, ..PageConfig::default() }).await;
    gateway.put(event("http://kitchen:1", 0), true).await;
    let said = gateway.get("/api/v1/privacy").await.json();
    assert_eq!(said["data_dir"], gateway.dir.path().to_str().unwrap());
    assert_eq!((&said["clips"]["keep_days"], &said["clips"]["speech_cut_off"]), (&90.into(), &true.into()));
    assert!(said["clips"]["count"] == 1 && said["clips"]["bytes"].as_u64() > Some(16_000), "{said}");
    assert_eq!((&said["events"]["keep_days"], &said["audit_log"]["keep_days"]), (&3_650.into(), &365.into()));
    assert!(said["backups"]["to"].is_null() && said["other_copies"] == serde_json::json!([]), "{said}");
    assert_eq!((&said["live_audio"]["enabled"], &said["live_audio"]["who"]), (&false.into(), &Value::Null));
    assert_eq!(said["deletions"], serde_json::json!([]));

    let gateway = Gateway::new().await;
    std::fs::write(gateway.dir.path().join("hub.sqlite.broken-20260101T000000Z"), "").unwrap();
    let said = gateway.get("/api/v1/privacy").await.json();
    assert_eq!(said["other_copies"], serde_json::json!(["hub.sqlite.broken-20260101T000000Z"]));
    assert_eq!(said["live_audio"]["who"], "everyone");
    let token = gateway.people.add_token("anna", UserRole::Viewer, None).await.unwrap();
    let new = hub_people::NewUser { name: "anna".into(), role: UserRole::Admin, password: "correct horse".into() };
    gateway.people.add_user(new).await.unwrap();
    let bearer = format!("Bearer {}", token.expose());
    let said = gateway.ask("GET", "/api/v1/privacy", &[("authorization", &bearer)], "").await.json();
    assert_eq!(said["live_audio"]["who"], "listener");
}

#[tokio::test]
async fn everything_about_a_cat_is_counted_and_then_deleted() {
    let gateway = Gateway::new().await;
    for number in 0..3 {
        let cat = if number == 1 { "Lily" } else { "Tom" };
        let heard = NewEvent { cat: cat.into(), ..event("http://kitchen:1", number * 16_000) };
        gateway.put(heard, true).await;
    }
    gateway.label(1, r#"{"label":"brushing"}"#).await;
    let preview = gateway.delete_all(r#"{"cat":"Tom","dry_run":true}"#).await;
    let said = preview.json();
    assert_eq!((preview.status, &said["state"], &said["id"]), (StatusCode::OK, &"preview".into(), &Value::Null));
    let wanted = serde_json::json!(
        { "events": 2, "clips": 2, "labels": 1, "notifications": 0, "analyses": 0, "copies": 0 });
    assert_eq!(said["deleted"], wanted);
    assert!(said["not_deleted"].as_str().unwrap().contains("hub backup"), "{said}");
    assert_eq!(gateway.deletions().await.len(), 0, "nothing is deleted yet");

    let mut news = gateway.live.watch();
    let stop = gateway.stop.clone();
    let told = gateway.live.clone();
    let on_erased = move |ids: &[i64]| ids.iter().for_each(|id| told.tell(News::Deleted { id: *id }));
    let eraser = Eraser::new(gateway.clips.clone(), gateway.backups.clone(), on_erased);
    let running = tokio::spawn(eraser.run(stop.clone()));
    let begun = gateway.delete_all(r#"{"cat":"Tom"}"#).await;
    let said = begun.json();
    assert_eq!((begun.status, &said["id"], &said["cat"]), (StatusCode::ACCEPTED, &1.into(), &"Tom".into()));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while gateway.deletions().await[0]["state"] != "done" {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", gateway.deletions().await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    running.await.unwrap();
    let done = gateway.deletions().await.remove(0);
    assert_eq!(done["deleted"], wanted);
    assert!(done["cat"].is_null() && done["of_cat"] == true && done["ended_at"].is_string(), "{done}");
    assert_eq!(gateway.get("/api/v1/events").await.json()["events"].as_array().unwrap().len(), 1);
    assert!(matches!(&*news.recv().await.unwrap(), News::Labelled(_) | News::Deleted { .. }));

    let audit = gateway.people.audit(None, 10).await.unwrap();
    let lines: Vec<_> = audit.iter().map(|entry| (&*entry.action, &*entry.subject)).collect();
    assert_eq!(lines[..2], [("delete_everything", "Tom"), ("delete_everything", "Tom (dry run)")]);
}

#[tokio::test]
async fn deletion_needs_a_cat_or_a_valid_time_and_the_own_page() {
    let gateway = Gateway::new().await;
    let event = gateway.put(event("http://kitchen:1", 0), false).await;
    for (body, words) in [
        ("{}", "name a `cat`, or a time as `before`"),
        (r#"{"dry_run":true}"#, "name a `cat`, or a time as `before`"),
        (r#"{"cat":""}"#, "cat: the name has 1 to 1024 bytes"),
        (r#"{"before":"yesterday"}"#, "before: \"yesterday\" is not an RFC 3339 time such as 2026-11-22T20:30:00Z"),
        (r#"{"before":"9999-01-01T00:00:00Z"}"#, "is not between the years 1677 and 2262"),
        (r#"{"cats":"Tom"}"#, "unknown key `cats`; did you mean `cat`?"),
        (r#"{"cat":7}"#, "cat: 7 is not a text"),
    ] {
        let answer = gateway.delete_all(body).await;
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}: {message}");
        assert!(message.contains(words), "{body}: {message}");
    }
    let foreign = [("content-type", "application/json"), ("sec-fetch-site", "cross-site")];
    let answer = gateway.ask("POST", "/api/v1/deletions", &foreign, r#"{"cat":"Tom"}"#).await;
    assert_eq!(answer.json()["error"]["code"], "foreign_origin");
    // The time is exact: an event that began then stays.
    let at = hub_base::time::rfc3339(event.found.started_at_ns);
    let after = hub_base::time::rfc3339(event.found.started_at_ns + 1);
    for (before, events) in [(at, 0), (after, 1)] {
        let body = serde_json::json!({ "before": before, "dry_run": true }).to_string();
        assert_eq!(gateway.delete_all(&body).await.json()["deleted"]["events"], events, "{before}");
    }
    assert!(gateway.deletions().await.is_empty());
    for _ in 0..hub_store::deletions::MAX_WAITING_DELETIONS {
        assert_eq!(gateway.delete_all(r#"{"cat":"Tom"}"#).await.status, StatusCode::ACCEPTED);
    }
    assert_eq!(gateway.delete_all(r#"{"cat":"Tom"}"#).await.status, StatusCode::CONFLICT);
}
