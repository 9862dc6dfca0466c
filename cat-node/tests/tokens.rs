//! A scraper on another machine reads the node's `/metrics` with a token of `cat-node token`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use cat_node::config::NodeSettings;
use cat_node::control;
use cat_node::run::run;
use cat_node::source::SourceSpec;
use daemon::shutdown::CancellationToken;
use tokio::net::TcpListener;

/// Longer than any step takes on a machine that is not stuck.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running node.
struct Node {
    folder: tempfile::TempDir,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Node {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let settings = NodeSettings {
            source: SourceSpec::Synthetic { seed: 1, vocalisations: true },
            state_dir: Some(folder.path().to_owned()),
            ..NodeSettings::default()
        };
        tokio::spawn(run(settings, vec![listener], stop.clone()));
        tokio::time::timeout(DEADLINE, async {
            while !control::place_of_client(Some(folder.path())).exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the node runs");
        Self { folder, address, stop }
    }

    /// Runs the program as a person would.
    async fn cat_node(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cat-node"));
        command.args(args).arg("--state-dir").arg(self.folder.path());
        tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
    }

    async fn printed(&self, args: &[&str]) -> String {
        let done = self.cat_node(args).await;
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    async fn refused(&self, args: &[&str]) -> String {
        let done = self.cat_node(args).await;
        assert_eq!(done.status.code(), Some(1), "{args:?}: {done:?}");
        String::from_utf8(done.stderr).unwrap()
    }

    /// What curl gets from a path, without a key of its own: status, headers and text. It checks the certificate by
    /// this file, and the name in it.
    async fn curl(&self, certificate: &Path, path: &str, more: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--include", "--max-time", "30", "--cacert"]).arg(certificate);
        curl.arg("--connect-to").arg(format!("meowlink:443:{}", self.address));
        curl.args(more).arg(format!("https://meowlink{path}"));
        tokio::task::spawn_blocking(move || curl.output()).await.unwrap().unwrap()
    }
}

/// Header and text of an answer, as curl prints them.
fn text(done: &Output) -> String {
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout.clone()).unwrap()
}

fn status(done: &Output) -> String {
    let text = text(done);
    text.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scraper_reads_metrics_by_a_token_until_it_is_removed() {
    let node = Node::start().await;
    let certificate = node.folder.path().join("node.crt");
    std::fs::write(&certificate, node.printed(&["identity", "certificate"]).await).unwrap();
    let curl = |path: &'static str, more: Vec<String>| {
        let (node, certificate) = (&node, &certificate);
        async move { node.curl(certificate, path, &more.iter().map(String::as_str).collect::<Vec<_>>()).await }
    };
    let with = |token: &str, version: &str| vec!["-H".into(), format!("Authorization: Bearer {token}"), version.into()];

    let without = curl("/metrics", vec![]).await;
    assert_eq!(status(&without), "401");
    assert!(text(&without).contains("cat-node token add"), "{}", text(&without));

    let token = node.printed(&["token", "add", "grafana", "--expires", "90d"]).await.trim().to_owned();
    assert_eq!(node.printed(&["token", "list"]).await, "grafana  expires: in 90 days  last used: never\n");
    assert!(node.refused(&["token", "add", "grafana"]).await.contains("already"));
    let wrong = format!("{}{}", &token[..token.len() - 1], if token.ends_with('0') { '1' } else { '0' });
    for version in ["--http1.1", "--http2"] {
        let read = curl("/metrics", with(&token, version)).await;
        assert!(status(&read) == "200" && text(&read).contains("meowlink_node_build_info"), "{}", text(&read));
        assert_eq!(status(&curl("/metrics", with(&wrong, version)).await), "401");
        let basic = vec!["-H".into(), format!("Authorization: Basic {token}"), version.into()];
        assert_eq!(status(&curl("/metrics", basic).await), "401");
    }
    assert!(node.printed(&["token", "list"]).await.contains("last used: "), "the use is shown");
    assert!(!node.printed(&["token", "list"]).await.contains("last used: never"), "the use is shown");

    // The token is for nothing else. The answer is that for clients with an unknown key: a call of gRPC has its status
    // in a header of an answer that is 200.
    for path in ["/proto.cat/Describe", "/proto.Pairing/Begin", "/grpc.health.v1.Health/Check", "/", "/metrics/"] {
        let mut call = with(&token, "--http1.1");
        assert_eq!(status(&curl(path, call.clone()).await), "403", "{path}");
        *call.last_mut().unwrap() = "--http2".into();
        call.extend(["-H", "content-type: application/grpc", "--data-binary", ""].map(String::from));
        let refused = text(&curl(path, call).await);
        assert!(refused.contains("grpc-status: 7") && refused.contains("not%20paired"), "{path}: {refused}");
    }

    assert_eq!(node.printed(&["token", "remove", "grafana"]).await, "removed: grafana\n");
    assert_eq!(status(&curl("/metrics", with(&token, "--http1.1")).await), "401");
    assert!(node.refused(&["token", "remove", "grafana"]).await.contains("there is no token"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scraper_with_the_certificate_of_its_node_sends_no_token_to_another_machine() {
    let (node, other) = (Node::start().await, Node::start().await);
    let certificate = node.folder.path().join("node.crt");
    std::fs::write(&certificate, node.printed(&["identity", "certificate"]).await).unwrap();
    let done = other.curl(&certificate, "/metrics", &["-H", "Authorization: Bearer meow"]).await;
    // 60: the certificate is not trusted.
    assert_eq!(done.status.code(), Some(60), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(status(&node.curl(&certificate, "/metrics", &[]).await), "401", "the control");
}
