//! The metrics of the real daemons, and the files in `docs/monitoring` that use them.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::binaries::binaries;
use e2e::daemon::Daemon;
use e2e::http::{self, get};
use e2e::hub::{Addresses, Hub};
use e2e::node::{Node, NodeOptions};
use e2e::ports;
use e2e::wait::{SOON, until};

/// A generous deadline: Prometheus has to open its database, and scrapes once a second.
const SCRAPED: Duration = Duration::from_secs(60);

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The path of a program in Debian's package `prometheus`.
fn program(name: &str) -> PathBuf {
    let found = Command::new(workspace().join("scripts/debian-program")).args(["prometheus", name]).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim_end())
}

fn document(name: &str) -> String {
    std::fs::read_to_string(workspace().join("docs/monitoring").join(name)).unwrap()
}

/// A hub and its node after some work: audio was analysed, and each kind of call was made.
async fn at_work() -> (Hub, Node) {
    let at = Addresses::free();
    let node = Node::start(NodeOptions::new(format!("http://{}", at.owner))).await;
    let hub = Hub::start_at(at, &[("Tom", &node.url())]).await;
    for path in ["/cat/Tom", "/dog/Rex", "/readyz", "/nowhere"] {
        hub.get(path).await;
    }
    hub.analyze("Tom").await;
    until(SOON, "audio is analysed", || async {
        let page = hub.get("/metrics").await;
        page.text().contains("meowlink_hub_node_score{").then_some(())
    })
    .await;
    (hub, node)
}

/// The names of all families and samples on a page.
fn names(page: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert!(names.insert(name.to_owned()), "{name} occurs twice");
        if kind == "histogram" {
            names.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        }
    }
    names
}

/// The metrics that a document mentions.
fn spoken_of(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours =
        |word: &&str| ["meowlink_hub_", "meowlink_node_", "process_"].iter().any(|prefix| word.starts_with(prefix));
    words.filter(ours).map(str::to_owned).collect()
}

#[tokio::test]
async fn dashboard_and_alerts_speak_of_metrics_that_exist() {
    let (hub, node) = at_work().await;
    let hub_page = get(hub.at.http, "/metrics").await;
    let node_page = get(node.address(), "/metrics").await;
    let mut known = names(hub_page.text());
    known.extend(names(node_page.text()));
    for (name, at_least) in [("grafana.json", 50), ("alerts.yml", 12), ("alerts.test.yml", 12)] {
        let wanted = spoken_of(&document(name));
        assert!(wanted.len() >= at_least, "{name} mentions {wanted:?}");
        let unknown: Vec<_> = wanted.difference(&known).collect();
        assert!(unknown.is_empty(), "{name} mentions metrics that do not exist: {unknown:?}");
    }
}

/// The first lines of a YAML block of the documentation that has this line.
fn yaml_with(text: &str, line: &str) -> String {
    let mut blocks = text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.contains(line)).unwrap_or_else(|| panic!("no YAML with {line}")).to_owned()
}

#[tokio::test]
async fn prometheus_scrapes_a_node_by_certificate_and_token_as_the_documentation_says() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let options = NodeOptions { state_folder: Some(state.clone()), ..NodeOptions::new("http://127.0.0.1:1") };
    let node = Node::start(options).await;
    let cat_node = |args: &[&str]| {
        let done = Command::new(&binaries().cat_node).args(args).arg("--state-dir").arg(&state).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    };
    std::fs::write(folder.path().join("kitchen-pi.token"), cat_node(&["token", "add", "prometheus"])).unwrap();
    std::fs::write(folder.path().join("kitchen-pi.crt"), cat_node(&["identity", "certificate"])).unwrap();
    let job = yaml_with(&document("README.md"), "job_name: meowlink-node-kitchen");
    assert!(job.contains("192.168.1.20:50056") && job.contains("/etc/prometheus/"), "{job}");
    let job = job
        .replace("192.168.1.20:50056", &node.address().to_string())
        .replace("/etc/prometheus", folder.path().to_str().unwrap());
    let config = format!("global:\n  scrape_interval: 1s\nscrape_configs:\n{job}");
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    let own = ports::free();
    let arguments = [
        format!("--config.file={}", folder.path().join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", folder.path().join("data").display()),
        format!("--web.listen-address={own}"),
    ];
    let _prometheus = Daemon::start("prometheus", &program("prometheus"), &arguments);
    until(SCRAPED, "Prometheus has the node's metrics", || async {
        let query = "/api/v1/query?query=meowlink_node_frames_captured_total";
        let answer = http::try_exchange(own, "GET", query).await.ok()?;
        answer.text().contains("meowlink-node-kitchen").then_some(())
    })
    .await;
    let listed = String::from_utf8(cat_node(&["token", "list"])).unwrap();
    assert!(listed.starts_with("prometheus") && !listed.contains("last used: never"), "{listed}");
}

/// The words that a label has on a page, in the samples of one metric.
fn words(page: &str, metric: &str, label: &str) -> BTreeSet<String> {
    let samples = page.lines().filter(|line| line.starts_with(&format!("{metric}{{")));
    let value = |line: &str| Some(line.split_once(&format!("{label}=\""))?.1.split_once('"')?.0.to_owned());
    samples.filter_map(value).collect()
}

#[tokio::test]
async fn dashboard_and_alerts_know_every_condition_of_a_node() {
    const METRIC: &str = "meowlink_hub_node_condition";
    let (hub, _node) = at_work().await;
    let page = get(hub.at.http, "/metrics").await;
    let conditions = words(page.text(), METRIC, "state");
    assert!(conditions.contains("ok") && conditions.len() > 5, "{conditions:?}");

    let dashboard: serde_json::Value = serde_json::from_str(&document("grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let panel = panels.iter().find(|panel| panel["title"] == "Condition of each node").unwrap();
    // Each condition but `ok` has a number in the query, and each number has words in the mapping.
    let query = panel["targets"][0]["expr"].as_str().unwrap();
    let mut numbers = BTreeMap::from([("0".to_owned(), "ok".to_owned())]);
    for term in query.split(" + on (node) ") {
        let number = term.trim_start_matches('(').split_once(" * ").unwrap().0;
        let condition = term.split_once("state=\"").unwrap().1.split_once('"').unwrap().0;
        assert_eq!(numbers.insert(number.to_owned(), condition.to_owned()), None, "{number} has two conditions");
    }
    assert_eq!(numbers.values().cloned().collect::<BTreeSet<_>>(), conditions, "the query of the dashboard");
    let mapping = panel["fieldConfig"]["defaults"]["mappings"][0]["options"].as_object().unwrap();
    assert_eq!(mapping.keys().collect::<BTreeSet<_>>(), numbers.keys().collect(), "the mapping of the dashboard");

    for name in ["grafana.json", "alerts.yml", "alerts.test.yml"] {
        let text = document(name).replace("\\\"", "\"");
        for rest in text.split(METRIC).skip(1) {
            let labels = rest.split_once('}').map_or("", |(labels, _)| labels);
            let Some((_, value)) = labels.split_once("state") else { continue };
            let value = value.split('"').nth(1).unwrap();
            let unknown: Vec<_> = value.split('|').filter(|word| !conditions.contains(*word)).collect();
            assert!(unknown.is_empty(), "{name}: {value}: {unknown:?} are no conditions");
        }
    }
    for name in ["docs/monitoring/README.md", "docs/troubleshooting.md"] {
        let text = std::fs::read_to_string(workspace().join(name)).unwrap();
        let missing: Vec<_> = conditions.iter().filter(|word| !text.contains(&format!("`{word}`"))).collect();
        assert!(missing.is_empty(), "{name} does not explain {missing:?}");
    }
}

#[tokio::test]
async fn pages_are_clean_by_promtool() {
    let (hub, node) = at_work().await;
    for (daemon, address) in [("hub", hub.at.http), ("dog", hub.at.dog), ("node", node.address())] {
        let page = get(address, "/metrics").await;
        let mut promtool = Command::new(program("promtool"))
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        promtool.stdin.take().unwrap().write_all(&page.body).unwrap();
        let said = promtool.wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr);
        assert!(said.status.success() && words.is_empty(), "{daemon}: {words}\n{}", page.text());
    }
}

#[tokio::test]
async fn prometheus_scrapes_both_daemons_by_the_config_of_the_documentation() {
    let (hub, node) = at_work().await;
    let folder = tempfile::tempdir().unwrap();
    let (hub_at, node_at) = (hub.at.http.to_string(), node.address().to_string());
    let config = document("prometheus.yml");
    assert!(config.contains("localhost:5000") && config.contains("localhost:50056") && config.contains("15s"));
    let config = config
        .replace("localhost:5000\"", &format!("{hub_at}\""))
        .replace("localhost:50056", &node_at)
        .replace("15s", "1s");
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    std::fs::write(folder.path().join("alerts.yml"), document("alerts.yml")).unwrap();
    let own = ports::free();
    let arguments = [
        format!("--config.file={}", folder.path().join("prometheus.yml").display()),
        format!("--storage.tsdb.path={}", folder.path().join("data").display()),
        format!("--web.listen-address={own}"),
    ];
    let _prometheus = Daemon::start("prometheus", &program("prometheus"), &arguments);
    let query = |query: &'static str| async move {
        let answer = http::try_exchange(own, "GET", &format!("/api/v1/query?query={query}")).await.ok()?;
        let json: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        let value = json["data"]["result"][0]["value"][1].as_str()?.parse::<f64>().ok()?;
        Some(value)
    };
    until(SCRAPED, "both daemons are up", || async { query("sum(up)").await.filter(|up| *up == 2.0) }).await;
    let hears = "sum(meowlink_hub_node_frames_total)>0";
    until(SCRAPED, "Prometheus has the hub's metrics", || query(hears)).await;
    let captures = "sum(meowlink_node_frames_captured_total)>0";
    until(SCRAPED, "Prometheus has the node's metrics", || query(captures)).await;
    // When the node is killed, the alert becomes pending.
    drop(node);
    let away = "count(ALERTS%7Balertname%3D%22MeowlinkNodeDown%22,alertstate%3D%22pending%22%7D)";
    until(SCRAPED, "the alert is pending", || query(away)).await;
}
