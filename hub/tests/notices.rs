//! Notifications of owners: by real calls, to a receiver that answers as the test says.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

mod common;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Hub, Node, NodeScript, nobody, rebind, request, url, within};
use hub_base::time::now_ns;
use hub_store::notifications::{ChannelName, NotificationPlan, Subject, SuppressReason};
use hub_store::{Access, Store};
use proto::NotifyRequest;
use proto::owner_client::OwnerClient;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a receiver got.
#[derive(Debug, Clone)]
struct Got {
    head: String,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn key(&self) -> &str {
        self.header("idempotency-key").expect("an idempotency key")
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An HTTP server that answers each request with the next of its answers, and the last one forever.
struct Receiver {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
}

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";
const DOWN: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 9\r\n\r\nit is ill";
/// Reads the request and never answers.
const HANGS: &str = "";

impl Receiver {
    async fn start(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, got) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Got>>>::default());
        let (all, mut answers) = (Arc::clone(&got), VecDeque::from(answers.to_vec()));
        tokio::spawn(async move {
            let mut hanging = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let one = read_request(&mut stream).await;
                let answer = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0] };
                all.lock().unwrap().push(one);
                if answer == HANGS {
                    hanging.push(stream);
                } else {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        Self { address, got }
    }

    /// Waits until it got this many.
    async fn got(&self, count: usize) -> Vec<Got> {
        within("the owner is notified", async {
            loop {
                let got = self.got.lock().unwrap().clone();
                if got.len() >= count {
                    return got;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

async fn read_request(stream: &mut TcpStream) -> Got {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let got = Got { head, body: String::new() };
            let length: usize = got.header("content-length").unwrap().parse().unwrap();
            if bytes.len() >= end + 4 + length {
                return Got { body: String::from_utf8(bytes[end + 4..].to_vec()).unwrap(), ..got };
            }
        }
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "cut short");
    }
}

fn webhook(owner: &str, to: SocketAddr, more: &str) -> String {
    format!(
        "[[owners]]\nname = {owner:?}\n{more}\n[[owners.channels]]\ntype = \"webhook\"\nurl = \"{}/hook?a=b\"\nsecret = \"shh\"\n",
        url(to)
    )
}

async fn start(toml: &str) -> (Hub, Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(NodeScript::default()).await;
    let hub = Hub::start_with(dir.path(), &format!("node = [{:?}]\n{toml}", node.url())).await;
    (hub, node, dir)
}

async fn bark(hub: &Hub, name: &str) {
    let answer = hub.get(&format!("/dog/{name}")).await;
    assert_eq!(answer.body, format!("{{\"dogBark\":\"{name} is going to bark!\"}}\n"));
}

/// Waits until there are this many notifications of a status.
async fn notices(hub: &Hub, status: &str, count: usize) -> Vec<Value> {
    within("notices", async {
        loop {
            let page = hub.json(&format!("/api/v1/notices?status={status}")).await;
            let notices = page["notices"].as_array().unwrap();
            if notices.len() >= count {
                assert_eq!(notices.len(), count, "{page}");
                return notices.clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// Whether a message is these words after a time, such as "17:28 UTC: ".
fn is_dated(message: &Value, words: &str) -> bool {
    let at = message.as_str().and_then(|message| message.strip_suffix(words)?.strip_suffix(": "));
    at.is_some_and(|at| at.len() >= 5 && at.as_bytes()[2] == b':')
}

#[tokio::test]
async fn notification_of_a_call_is_signed_and_has_a_key() {
    let receiver = Receiver::start(&[OK]).await;
    let (hub, _node, _dir) = start(&webhook("Anna", receiver.address, "")).await;
    bark(&hub, "Rex").await;
    let got = receiver.got(1).await.remove(0);
    assert!(got.head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{}", got.head);
    let json = got.json();
    assert_eq!((&json["kind"], &json["animal"], &json["owner"]), (&"call".into(), &"Rex".into(), &"Anna".into()));
    assert_eq!(json["key"], got.key());
    assert!(is_dated(&json["message"], "Rex was called (Dog)"), "{json}");
    let signature = got.header("meowlink-signature").unwrap();
    let (time, hex) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"shh");
    let tag: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
    ring::hmac::verify(&key, format!("{time}.{}", got.body).as_bytes(), &tag).unwrap();
    let sent = notices(&hub, "delivered", 1).await;
    assert_eq!((&sent[0]["key"], &sent[0]["channel_kind"]), (&got.key().into(), &"webhook".into()));
}

#[tokio::test]
async fn receiver_that_fails_for_a_while_gets_the_notification_later_with_the_same_key() {
    let receiver = Receiver::start(&[DOWN, DOWN, OK]).await;
    let (hub, _node, _dir) = start(&webhook("Anna", receiver.address, "")).await;
    bark(&hub, "Rex").await;
    let got = receiver.got(3).await;
    assert!(got.iter().all(|one| one.key() == got[0].key() && one.body == got[0].body));
    let sent = notices(&hub, "delivered", 1).await;
    assert_eq!(sent[0]["tries"], 2);
}

#[tokio::test]
async fn given_up_notification_is_listed_and_can_be_sent_again() {
    const MOVED: &str = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n";
    let receiver = Receiver::start(&[MOVED, OK]).await;
    let toml = format!("{}[notices]\nmax_tries = 1\n", webhook("Anna", receiver.address, ""));
    let (hub, _node, _dir) = start(&toml).await;
    bark(&hub, "Rex").await;
    let dead = notices(&hub, "dead", 1).await.remove(0);
    assert!(dead["error"].as_str().unwrap().contains("redirections are not followed"), "{dead}");
    let post = |path: String| {
        let bytes = format!("POST {path} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let http = hub.http;
        async move { request(http, &bytes).await }
    };
    let retry = format!("/api/v1/notices/{}/retry", dead["id"]);
    let answer = post(retry.clone()).await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &"pending".into()));
    let got = receiver.got(2).await;
    assert_eq!(got[0].key(), got[1].key());
    notices(&hub, "delivered", 1).await;
    assert_eq!(post(retry).await.problem(), (409, "conflict".into()));
    assert_eq!(post("/api/v1/notices/99/retry".into()).await.problem(), (404, "not_found".into()));
    assert_eq!(hub.get("/api/v1/notices?status=lost").await.problem(), (400, "bad_request".into()));
    assert_eq!(hub.get("/api/v1/notices?limit=0").await.problem(), (400, "bad_request".into()));
}

#[tokio::test]
async fn refusal_that_never_changes_is_given_up_at_once_and_the_next_notification_is_tried() {
    const GONE: &str = "HTTP/1.1 410 Gone\r\ncontent-length: 5\r\n\r\nmoved";
    let receiver = Receiver::start(&[GONE, OK]).await;
    let (hub, _node, _dir) = start(&webhook("Anna", receiver.address, "")).await;
    bark(&hub, "Rex").await;
    let dead = notices(&hub, "dead", 1).await.remove(0);
    assert_eq!((&dead["tries"], &dead["error"]), (&1.into(), &"the server answered 410 Gone: moved".into()));
    bark(&hub, "Bello").await;
    assert_eq!(notices(&hub, "delivered", 1).await[0]["animal"], "Bello");
    assert_eq!(receiver.got(2).await.len(), 2);
}

#[tokio::test]
async fn server_that_asks_for_a_wait_gets_it() {
    const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 4\r\ncontent-length: 0\r\n\r\n";
    let receiver = Receiver::start(&[BUSY, OK]).await;
    let (hub, _node, _dir) = start(&webhook("Anna", receiver.address, "")).await;
    bark(&hub, "Rex").await;
    receiver.got(1).await;
    let asked = std::time::Instant::now();
    let got = receiver.got(2).await;
    // Without the header, the second delivery comes after two seconds at most.
    assert!(asked.elapsed() > Duration::from_millis(3_900), "{:?}", asked.elapsed());
    assert_eq!(got[0].key(), got[1].key());
    assert_eq!(notices(&hub, "delivered", 1).await[0]["tries"], 1);
}

#[tokio::test]
async fn receiver_that_hangs_delays_neither_the_answer_nor_another_owner() {
    let (hanging, well) = (Receiver::start(&[HANGS]).await, Receiver::start(&[OK]).await);
    let toml = webhook("Anna", hanging.address, "") + &webhook("Bert", well.address, "");
    let (hub, _node, _dir) = start(&toml).await;
    for name in ["Rex", "Bello", "Hasso"] {
        bark(&hub, name).await;
    }
    let animals: Vec<_> = well.got(3).await.iter().map(|one| one.json()["animal"].clone()).collect();
    assert_eq!(animals, ["Rex", "Bello", "Hasso"]);
    assert_eq!(hanging.got(1).await.len(), 1, "one at a time");
    // Nor does it delay the stop.
    hub.stop().await;
}

#[tokio::test]
async fn cooldown_suppresses_notifications_and_keeps_them() {
    let receiver = Receiver::start(&[OK]).await;
    let more = "animals = [\"Rex\", \"Bello\"]\ncooldown_s = 3600";
    let (hub, _node, _dir) = start(&webhook("Anna", receiver.address, more)).await;
    for name in ["Rex", "Rex", "Hasso", "Rex", "Bello"] {
        bark(&hub, name).await;
    }
    let animals: Vec<_> = receiver.got(2).await.iter().map(|one| one.json()["animal"].clone()).collect();
    assert_eq!(animals, ["Rex", "Bello"]);
    let suppressed = notices(&hub, "suppressed", 2).await;
    assert_eq!((&suppressed[0]["reason"], &suppressed[0]["animal"]), (&"cooldown".into(), &"Rex".into()));
    let page = hub.json("/api/v1/notices?limit=3").await;
    let next = hub.json(&format!("/api/v1/notices?limit=3&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!((next["notices"].as_array().unwrap().len(), &next["next_cursor"]), (1, &Value::Null));
}

#[tokio::test]
async fn phone_gets_a_message_of_ntfy() {
    let receiver = Receiver::start(&[OK]).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "tk_123\n").unwrap();
    let toml = format!(
        "[[owners]]\nname = \"Anna\"\n[[owners.channels]]\ntype = \"ntfy\"\nserver = \"http://localhost:{}\"\ntopic = \"cats\"\n\
         token_file = {token:?}\npriority = 4\n",
        receiver.address.port()
    );
    let (hub, _node, _dir) = start(&toml).await;
    bark(&hub, "Rex").await;
    let got = receiver.got(1).await.remove(0);
    assert!(got.head.starts_with("POST / HTTP/1.1\r\n"), "{}", got.head);
    assert_eq!(got.header("authorization"), Some("Bearer tk_123"));
    let sent = got.json();
    assert!(is_dated(&sent["message"], "Rex was called (Dog)"), "{sent}");
    let message = &sent["message"];
    let expected = serde_json::json!({
        "topic": "cats", "title": "Rex", "message": message, "priority": 4, "tags": ["cat"]
    });
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn owner_role_in_its_own_process_delivers_what_another_process_stored() {
    let receiver = Receiver::start(&[OK]).await;
    let dir = tempfile::tempdir().unwrap();
    let toml = format!("only = [\"owner\"]\n{}", webhook("Anna", receiver.address, ""));
    let hub = Hub::start_with(dir.path(), &toml).await;
    let mut owner = OwnerClient::new(hub_base::peer::channel(&url(hub.owner)).unwrap());
    let notice = NotifyRequest { animal_name: "Tom".into(), animal_type: "cat".into() };
    assert_eq!(owner.notify(notice).await.unwrap().into_inner().message, "Owner of Tom cat is notified");
    receiver.got(1).await;

    let other = Store::open(dir.path(), Access::Guest).unwrap();
    let subject = Subject::Call { animal: "Ada".into(), animal_type: "cat".into(), called_at_ns: now_ns() };
    let plan = NotificationPlan {
        owner: "Anna".into(),
        channels: vec![ChannelName { name: "webhook".into(), kind: "webhook".into() }],
        cooldown_ns: 0,
        hold: None,
        wait_ns: 0,
        digest_due_ns: None,
    };
    other.commit_notifications(vec![(subject.clone(), vec![plan.clone()])], now_ns()).await.unwrap();
    assert_eq!(receiver.got(2).await[1].json()["animal"], "Ada");

    // Suppressed until now: a digest.
    let held = NotificationPlan { hold: Some(SuppressReason::QuietHours), digest_due_ns: Some(now_ns()), ..plan };
    other.commit_notifications(vec![(subject, vec![held]); 3], now_ns()).await.unwrap();
    let digest = receiver.got(3).await[2].json();
    assert_eq!((&digest["kind"], &digest["animal"]), (&"digest".into(), &Value::Null));
    assert_eq!(digest["counts"], serde_json::json!({ "Ada": { "call": 3 } }));
}

#[tokio::test]
async fn without_owners_nothing_is_stored() {
    let (hub, _node, _dir) = start("").await;
    bark(&hub, "Rex").await;
    let page = hub.json("/api/v1/notices").await;
    assert_eq!(page, serde_json::json!({ "notices": [], "next_cursor": null }));
}

#[tokio::test]
async fn secret_that_cannot_be_read_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let toml = "[[owners]]\nname = \"Anna\"\n[[owners.channels]]\ntype = \"webhook\"\nurl = \"http://a\"\nsecret_file = \"/none\"";
    let mut settings: hub::config::HubSettings = toml::from_str(toml).unwrap();
    settings.data_dir = Some(dir.path().into());
    let stop = daemon::shutdown::CancellationToken::new();
    let error = hub::run::run(settings, hub::run::Listeners::default(), stop).await.unwrap_err();
    assert!(error.to_string().starts_with("owners.Anna.channels.webhook.secret_file: /none"), "{error}");
}

#[tokio::test]
async fn owner_is_notified_of_a_node_that_does_not_answer_and_of_its_return() {
    let receiver = Receiver::start(&[OK]).await;
    let address = nobody().await;
    let dir = tempfile::tempdir().unwrap();
    let toml = format!(
        "node = [\"Tom={}\"]\nlisten.enabled = false\nhealth.tell_after_s = 1\n{}",
        url(address),
        webhook("Anna", receiver.address, "animals = [\"Tom\"]")
    );
    let _hub = Hub::start_with(dir.path(), &toml).await;
    let sent = receiver.got(1).await[0].json();
    assert_eq!(
        (&sent["kind"], &sent["animal"], &sent["node"]["condition"]),
        (&"node".into(), &"Tom".into(), &"away".into())
    );
    assert!(sent["message"].as_str().unwrap().contains(": Tom's node has been unreachable for "), "{sent}");
    let _node = Node::start_on(rebind(address).await, NodeScript::default());
    let sent = receiver.got(2).await[1].json();
    assert_eq!((&sent["kind"], &sent["node"]["condition"]), (&"node".into(), &"ok".into()));
    assert!(sent["node"]["lasted_s"].as_u64().unwrap() >= 1, "{sent}");
}
