//! The daemons as processes: how they stop, their command lines, and hub roles in processes of their own.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::time::Duration;

use e2e::binaries::binaries;
use e2e::daemon::{Daemon, Finished, Signal, run};
use e2e::fakes::{FakeOwner, Mood};
use e2e::http;
use e2e::hub::{Addresses, Hub};
use e2e::node::{Node, NodeOptions, channel};
use e2e::wait::{SOON, until, within};
use proto::cat_analysis_client::CatAnalysisClient;
use proto::dog_client::DogClient;
use proto::owner_client::OwnerClient;
use proto::{AnalysisRequest, AnalyzeCatSoundRequest, DogRequest, ListenRequest, NotifyRequest};

/// The daemons promise to exit within this time after the first signal.
const STOP: Duration = Duration::from_secs(5);

/// Exit code for wrong usage or an invalid config.
const USAGE: Option<i32> = Some(64);

#[tokio::test]
async fn node_stops_cleanly_while_streams_are_open() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::start(NodeOptions::new("http://127.0.0.1:1")).await;
        let mut client = node.client();
        let mut seconds = client.analyze_cat_sound(AnalyzeCatSoundRequest::default()).await.unwrap().into_inner();
        let mut frames = client.listen(ListenRequest::default()).await.unwrap().into_inner();
        within(SOON, "a second", seconds.message()).await.unwrap().expect("the stream goes on");
        within(SOON, "a frame", frames.message()).await.unwrap().expect("the stream goes on");
        node.daemon.signal(signal);
        let (status, took) = node.daemon.exit(SOON).await;
        assert!(status.success() && took < STOP, "{status} after {took:?}");
        let ended = within(SOON, "the stream ends", async { while let Ok(Some(_)) = frames.message().await {} });
        ended.await;
    }
}

#[tokio::test]
async fn hub_stops_cleanly_and_stores_running_analyses() {
    for signal in [Signal::TERM, Signal::INT] {
        let owner = FakeOwner::start(Mood::Answers).await;
        let node = Node::start(NodeOptions::new(owner.url())).await;
        let mut hub = Hub::start(&[("Tom", &node.url())]).await;
        let path = hub.analyze("Tom").await;
        // This stream is opened after the hub's. When it has a message, the hub has one too.
        let mut stream = node.client().analyze_cat_sound(AnalyzeCatSoundRequest::default()).await.unwrap().into_inner();
        for _ in 0..2 {
            within(SOON, "a second", stream.message()).await.unwrap().expect("the stream goes on");
        }
        hub.daemon.signal(signal);
        let (status, took) = hub.daemon.exit(SOON).await;
        assert!(status.success() && took < STOP, "{status} after {took:?}");

        let hub = hub.restart().await;
        let analysis = hub.get(&path).await.json();
        assert_eq!(analysis["status"], "partial", "{analysis}");
        assert!(analysis["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{analysis}");
        assert!(analysis["messages"].as_u64().unwrap() >= 1, "{analysis}");
    }
}

#[tokio::test]
async fn second_signal_ends_a_daemon_at_once() {
    let mut node = Node::start(NodeOptions::new("http://127.0.0.1:1")).await;
    let mut hub = Hub::start(&[("Tom", &node.url())]).await;
    for daemon in [&mut hub.daemon, &mut node.daemon] {
        // While the daemon is stopped, both signals queue up. When it continues, the second one arrives before it has
        // exited.
        daemon.signal(Signal::STOP);
        daemon.signal(Signal::TERM);
        daemon.signal(Signal::INT);
        daemon.signal(Signal::CONT);
        let (status, _) = daemon.exit(SOON).await;
        assert_eq!(status.code(), Some(130), "128 + SIGINT: {status}");
    }
}

#[tokio::test]
async fn closed_log_pipe_does_not_stop_a_daemon() {
    use std::process::{Command, Stdio};
    let (listen, data) = (e2e::ports::free().to_string(), tempfile::tempdir().unwrap());
    let data = data.path().to_str().unwrap();
    let programs = binaries();
    for (program, arguments) in [
        (&programs.cat_node, vec!["--listen", &listen, "--source", "synthetic"]),
        (&programs.hub, vec!["--only", "gateway", "--http", &listen, "--data-dir", data]),
    ] {
        let mut child = Command::new(program).args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stderr.take());
        until(SOON, "it listens", || async { std::net::TcpStream::connect(&listen).ok() }).await;
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
        let status = until(SOON, "it stops", || {
            let ended = child.try_wait().unwrap();
            async move { ended }
        })
        .await;
        assert_eq!(status.code(), Some(0), "{status}");
    }
}

fn assert_usage(finished: &Finished, words: &[&str]) {
    assert_eq!(finished.code, USAGE, "{finished:?}");
    for word in words {
        assert!(finished.stderr.contains(word), "{word:?} is not in {:?}", finished.stderr);
    }
}

#[test]
fn wrong_usage_is_64_and_names_the_argument() {
    let programs = binaries();
    for (arguments, words) in [
        (&["--no-such-flag"][..], &["--no-such-flag"][..]),
        (&["frobnicate"], &["frobnicate"]),
        (&["--listen", "nowhere"], &["--listen", "nowhere"]),
        (&["--source", "harp"], &["harp", "wav:PATH"]),
        (&["--seed", "minus"], &["--seed", "minus"]),
        (&["--owner", "not a url"], &["owner", "not a url"]),
        (&["--listen", "0.0.0.0:0"], &["listen", "0.0.0.0:0", "--insecure"]),
        (&["record"], &["OUT"]),
    ] {
        assert_usage(&run(&programs.cat_node, arguments, &[]), words);
    }
    for (arguments, words) in [
        (&["--no-such-flag"][..], &["--no-such-flag"][..]),
        (&["frobnicate"], &["frobnicate"]),
        (&["--http", "nowhere"], &["--http", "nowhere"]),
        (&["--only", "fish"], &["--only", "fish"]),
        (&["--node", "Tom"], &["node", "Tom"]),
        (&["--dog", "0.0.0.0:0"], &["dog", "0.0.0.0:0", "--insecure"]),
        (&["analyze"], &["FILE"]),
    ] {
        assert_usage(&run(&programs.hub, arguments, &[]), words);
    }
}

#[test]
fn invalid_config_is_64_and_names_file_and_key() {
    let programs = binaries();
    let folder = tempfile::tempdir().unwrap();
    for (name, program) in [("cat-node", &programs.cat_node), ("hub", &programs.hub)] {
        let path = folder.path().join(format!("{name}.toml"));
        let file = path.to_str().unwrap();
        for (text, key) in [("no_such_key = 1", "no_such_key"), ("insecure = \"perhaps\"", "insecure")] {
            std::fs::write(&path, text).unwrap();
            assert_usage(&run(program, &["serve", "--config", file], &[]), &[file, key]);
        }
        let (text, key) =
            if name == "hub" { ("max_analyses = 0", "max_analyses") } else { ("gain_db = 1000.0", "gain_db") };
        std::fs::write(&path, text).unwrap();
        assert_usage(&run(program, &["serve", "--config", file], &[]), &[file, key]);
        std::fs::write(&path, "not toml at all").unwrap();
        assert_usage(&run(program, &["--config", file], &[]), &[file]);
        let missing = folder.path().join("missing.toml");
        let missing = missing.to_str().unwrap();
        assert_usage(&run(program, &["--config", missing], &[]), &[missing]);
    }
}

#[test]
fn help_and_version_succeed() {
    let programs = binaries();
    for (program, commands) in
        [(&programs.cat_node, ["serve", "devices", "record"]), (&programs.hub, ["serve", "analyze", "--node"])]
    {
        let help = run(program, &["--help"], &[]);
        assert_eq!(help.code, Some(0));
        for command in commands {
            let found =
                help.stdout.contains(command) || run(program, &["serve", "--help"], &[]).stdout.contains(command);
            assert!(found, "{command} is not in {}", help.stdout);
        }
        assert_eq!(run(program, &["--version"], &[]).code, Some(0));
    }
}

#[tokio::test]
async fn taken_port_is_a_failure_that_names_the_address() {
    let hub = Hub::start(&[("Tom", "http://127.0.0.1:1")]).await;
    let taken = hub.at.http.to_string();
    let data = tempfile::tempdir().unwrap();
    let arguments = ["serve", "--only", "gateway", "--http", &taken, "--data-dir", data.path().to_str().unwrap()];
    let finished = run(&binaries().hub, &arguments, &[]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.stderr.contains(&taken), "{finished:?}");
}

#[tokio::test]
async fn roles_run_in_processes_of_their_own() {
    let at = Addresses::free();
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    let url = |address: std::net::SocketAddr| format!("http://{address}");
    let node = Node::start(NodeOptions::new(url(at.owner))).await;
    let cat = format!("Tom={}", node.url());

    let start = |role: &str, arguments: &[&str]| {
        let mut all = vec!["serve", "--only", role];
        all.extend(arguments);
        Daemon::start(&format!("hub {role}"), &binaries().hub, &all)
    };
    // The gateway starts first: the order must not matter.
    let (dog_url, analysis_url, owner_url) = (url(at.dog), url(at.analysis), url(at.owner));
    let gateway = [
        ["--http", &at.http.to_string()],
        ["--dog-url", &dog_url],
        ["--analysis-url", &analysis_url],
        ["--node", &cat],
        ["--data-dir", data],
    ];
    let _gateway = start("gateway", &gateway.concat());
    let _dog = start("dog", &["--dog", &at.dog.to_string(), "--owner-url", &owner_url]);
    let _analysis = start("analysis", &["--analysis", &at.analysis.to_string(), "--node", &cat, "--data-dir", data]);
    until(SOON, "the dog's process is there", || async {
        let http = http::try_exchange(at.http, "GET", "/dog/Rex").await.ok()?;
        (http.json()["error"]["code"] == "owner_unavailable").then_some(())
    })
    .await;
    let _owner = start("owner", &["--owner", &at.owner.to_string()]);

    for (path, body) in [
        ("/dog/Rex", "{\"dogBark\":\"Rex is going to bark!\"}\n"),
        ("/cat/Tom", "{\"catMeaw\":\"Tom: MEEEWWWWW\"}\n"),
        ("/analyze/Tom", "{\"result\":\"Analyzing Tom ...\"}\n"),
    ] {
        until(SOON, path, || async {
            let answer = http::try_exchange(at.http, "GET", path).await.ok()?;
            (answer.status == 200).then(|| assert_eq!(answer.text(), body))
        })
        .await;
    }
    let analyses = http::get(at.http, "/api/v1/analyses?cat=Tom").await.json();
    assert_eq!(analyses["analyses"][0]["status"], "running", "the gateway reads what the analysis stored: {analyses}");

    // Each process answers gRPC clients too.
    let notify = NotifyRequest { animal_name: "Tom".into(), animal_type: "cat".into() };
    let answer = OwnerClient::new(channel(&owner_url)).notify(notify).await.unwrap().into_inner();
    assert_eq!(answer.message, "Owner of Tom cat is notified");
    let rex = DogRequest { dog_name: "Rex".into() };
    let answer = DogClient::new(channel(&dog_url)).call_dog(rex).await.unwrap().into_inner();
    assert_eq!(answer.dog_bark, "Rex is going to bark!");
    let mia = AnalysisRequest { cat_name: "Mia".into() };
    let answer = CatAnalysisClient::new(channel(&analysis_url)).analyze_sound(mia).await.unwrap().into_inner();
    assert_eq!(answer.result, "Analyzing Mia ...");
}

#[tokio::test]
async fn owner_that_hangs_costs_callers_of_the_dog_a_deadline() {
    let owner = FakeOwner::start(Mood::Hangs).await;
    let at = Addresses::free();
    let url = owner.url();
    let dog = at.dog.to_string();
    let _dog =
        Daemon::start("hub dog", &binaries().hub, &["serve", "--only", "dog", "--dog", &dog, "--owner-url", &url]);
    let mut client = DogClient::new(channel(&format!("http://{dog}")));
    let status = until(SOON, "the dog answers", || {
        let mut client = client.clone();
        async move {
            let status = client.call_dog(DogRequest { dog_name: "Rex".into() }).await.unwrap_err();
            (status.code() != tonic::Code::Unavailable).then_some(status)
        }
    })
    .await;
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status}");
    assert_eq!(owner.notified()[0], ("Rex".to_owned(), "Dog".to_owned()));
    let again = within(SOON, "the second call ends", client.call_dog(DogRequest::default())).await.unwrap_err();
    assert_eq!(again.code(), tonic::Code::DeadlineExceeded, "{again}");
}
