//! The owner says which of several cats an event was.

use hub_store::testing::same_meow;
use serde_json::json;

use super::*;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

impl Gateway {
    async fn say(&self, id: i64, body: &str) -> Answer {
        self.ask("PUT", &format!("/api/v1/events/{id}/cat"), &JSON, body).await
    }

    /// The events that a list of this cat has.
    async fn of(&self, cat: &str) -> Vec<i64> {
        let list = self.get(&format!("/api/v1/events?cat={cat}")).await.json();
        list["events"].as_array().unwrap().iter().map(|event| event["id"].as_i64().unwrap()).collect()
    }
}

#[tokio::test]
async fn lists_counts_and_exports_follow_the_owner_and_the_cat_of_the_node_stays() {
    let gateway = Gateway::new().await;
    for number in 0..3 {
        gateway.put(event("http://kitchen:1", number * 16_000), false).await;
    }
    let before = gateway.get("/api/v1/events/2").await.json();
    assert_eq!((&before["cat"], &before["node_cat"]), (&"Tom".into(), &"Tom".into()));
    assert_eq!(before["cat_named_at"], Value::Null);

    let mut news = gateway.live.watch();
    let said = gateway.say(2, r#"{"cat":" Ada "}"#).await.json();
    assert_eq!((&said["cat"], &said["node_cat"]), (&"Ada".into(), &"Tom".into()));
    assert!(said["cat_named_at"].is_string(), "{said}");
    assert_eq!(gateway.get("/api/v1/events/2").await.json(), said);
    assert!(matches!(&*news.recv().await.unwrap(), News::Labelled(event) if event.cat() == "Ada"));
    assert_eq!((gateway.of("Ada").await, gateway.of("Tom").await), (vec![2], vec![3, 1]));
    for (cat, total) in [("Ada", 1), ("Tom", 2)] {
        let range = "from=2023-11-14T00:00:00Z&to=2023-11-16T00:00:00Z";
        let counts = gateway.get(&format!("/api/v1/counts?cat={cat}&{range}")).await.json();
        assert_eq!(counts["total"], total, "{cat}: {counts}");
    }
    let csv = gateway.get("/api/v1/events.csv?cat=Ada").await.body;
    let mut reader = csv::Reader::from_reader(&csv[..]);
    let columns = ["id", "cat", "node_cat"].map(|name| reader.headers().unwrap().iter().position(|one| one == name));
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    let fields = rows.iter().map(|row| columns.map(|column| row[column.unwrap()].to_owned()));
    assert_eq!(fields.collect::<Vec<_>>(), [["2", "Ada", "Tom"].map(str::to_owned)]);
    let lines = gateway.get("/api/v1/events?format=jsonl&cat=Ada").await;
    assert_eq!(lines.json(), said, "one line");
    gateway.label(2, r#"{"label":"brushing"}"#).await;
    let labels = gateway.get("/api/v1/labels.csv").await.body;
    let labels = csv::Reader::from_reader(&labels[..]).into_records().map(Result::unwrap).collect::<Vec<_>>();
    assert_eq!((labels.len(), &labels[0][5]), (1, "Ada"));

    gateway.say(3, r#"{"cat":"Ada"}"#).await;
    gateway.say(1, r#"{"cat":"Zoë"}"#).await;
    let named = json!([{ "name": "Ada", "events": 2 }, { "name": "Zoë", "events": 1 }]);
    for query in ["", "?node=http://kitchen:1"] {
        assert_eq!(gateway.get(&format!("/api/v1/cats{query}")).await.json()["cats"], named, "{query}");
    }
    assert_eq!(gateway.get("/api/v1/cats?node=http://hall:1").await.json()["cats"], json!([]));
    assert_eq!(gateway.get("/api/v1/cats?limit=1").await.status, StatusCode::BAD_REQUEST);

    for again in [false, true] {
        let back = gateway.ask("DELETE", "/api/v1/events/2/cat", &[], "").await;
        assert_eq!((back.status, &back.json()["cat"]), (StatusCode::OK, &"Tom".into()), "{again}");
        assert_eq!(back.json()["cat_named_at"], Value::Null);
    }
    assert_eq!(gateway.of("Tom").await, [2]);
}

#[tokio::test]
async fn invalid_names_and_unknown_events_are_rejected() {
    let gateway = Gateway::new().await;
    gateway.put(event("http://kitchen:1", 0), false).await;
    let long = json!({ "cat": "x".repeat(1_025) }).to_string();
    let bad =
        [r#"{"cat":""}"#, r#"{"cat":" "}"#, r#"{"cat":"A\nda"}"#, r#"{"cat":null}"#, "{}", r#"{"cat":"A","x":1}"#, "x"];
    for body in bad.into_iter().chain([long.as_str()]) {
        let answer = gateway.say(1, body).await;
        let code = &answer.json()["error"]["code"];
        assert_eq!((answer.status, code), (StatusCode::BAD_REQUEST, &"bad_request".into()), "{body}");
    }
    let message = gateway.say(1, r#"{"cat":""}"#).await.json()["error"]["message"].clone();
    assert_eq!(message, "cat: the name has 1 to 1024 bytes in one line");
    assert_eq!(gateway.get("/api/v1/events/1").await.json()["cat"], "Tom");
    for (method, path) in [("PUT", "9/cat"), ("DELETE", "9/cat"), ("PUT", "x/cat")] {
        let answer = gateway.ask(method, &format!("/api/v1/events/{path}"), &JSON, r#"{"cat":"Ada"}"#).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{method} {path}");
    }
    let foreign = [JSON[0], ("sec-fetch-site", "cross-site")];
    let answer = gateway.ask("PUT", "/api/v1/events/1/cat", &foreign, r#"{"cat":"Ada"}"#).await;
    assert_eq!(answer.json()["error"]["code"], "foreign_origin");
}

#[tokio::test]
async fn every_event_of_a_sound_is_announced_with_its_cat() {
    let gateway = Gateway::new().await;
    for (node, rms_dbfs) in [("http://kitchen:1", -40.0), ("http://hall:1", -20.0)] {
        gateway.put(same_meow(node, rms_dbfs), false).await;
    }
    assert_eq!(gateway.of("Tom").await, [2], "the control: the other one is not shown");
    let mut news = gateway.live.watch();
    let mut told = async || match &*news.recv().await.unwrap() {
        News::Labelled(event) => (event.id, event.cat().to_owned()),
        other => panic!("{other:?}"),
    };
    gateway.say(1, r#"{"cat":"Ada"}"#).await;
    let mut both = [told().await, told().await];
    both.sort();
    assert_eq!(both, [(1, "Ada".to_owned()), (2, "Ada".to_owned())]);
    // What was said before changes nothing, and is no news.
    gateway.say(1, r#"{"cat":"Ada"}"#).await;
    gateway.say(2, r#"{"cat":"Kim"}"#).await;
    assert_eq!(told().await.1, "Kim");
}
