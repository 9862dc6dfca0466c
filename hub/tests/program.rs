//! The `hub` program, started as a user starts it.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longest wait in a test. A longer one counts as a failure.
const SOON: Duration = Duration::from_secs(30);

fn hub() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hub"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("HUB_") || name == "NOTIFY_SOCKET") {
            command.env_remove(&name);
        }
    }
    command.env("HOME", "/nonexistent").env_remove("XDG_DATA_HOME").env_remove("STATE_DIRECTORY");
    command.stdin(Stdio::null());
    command
}

fn text(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn wav(path: &Path, seconds: u32) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for n in 0..16_000 * seconds {
        writer.write_sample((f64::from(n) * 0.1).sin() as i16 * 100).unwrap();
    }
    writer.finalize().unwrap();
}

#[test]
fn flags_override_the_environment_and_the_environment_overrides_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("hub.toml");
    std::fs::write(&file, "max_analyses = 1001").unwrap();
    let error_of = |command: &mut Command| {
        let (code, _, err) = text(&command.output().unwrap());
        assert_eq!(code, Some(64), "{err}");
        err
    };
    let file = file.to_str().unwrap();
    assert!(error_of(hub().args(["--config", file])).contains("max_analyses: 1001"));
    assert!(error_of(hub().env("HUB_CONFIG", file)).contains("max_analyses: 1001"));
    assert!(error_of(hub().args(["serve", "--config", file]).env("HUB_MAX_ANALYSES", "1002")).contains("1002"));
    let mut all = hub();
    all.args(["--config", file, "--max-analyses", "1003"]).env("HUB_MAX_ANALYSES", "1002");
    assert!(error_of(&mut all).contains("1003"));
    assert!(error_of(hub().env("HUB_MAX_ANALYSES", "many")).contains("many"));
}

#[test]
fn folder_and_file_that_cannot_be_used_are_named_with_the_reason_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let any = "127.0.0.1:0";
    let mut command = hub();
    command.args(["--http", any, "--owner", any, "--dog", any, "--analysis", any]).arg("--data-dir");
    let (code, _, err) = text(&command.arg(file.join("data")).output().unwrap());
    let expected =
        format!("{}: cannot use the data directory: a part of the path is not a folder", file.join("data").display());
    assert!(code == Some(1) && err.contains(&expected), "{err}");
    assert_eq!(err.matches("is not a folder").count(), 1, "{err}");
    let missing = dir.path().join("missing.wav");
    let (code, _, err) = text(&hub().arg("analyze").arg(&missing).output().unwrap());
    let expected = format!("{}: cannot be read: no such file or directory\n", missing.display());
    assert_eq!((code, err), (Some(1), expected));
    let (_, _, err) = text(&hub().args(["--config", "/missing/hub.toml"]).output().unwrap());
    assert!(
        err.contains("cannot read the config file: no such file or directory") && !err.contains("os error"),
        "{err}"
    );
}

#[test]
fn output_that_cannot_be_written_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.wav");
    wav(&file, 1);
    let file = file.to_str().unwrap();
    for args in [&["analyze", file][..], &["config", "show", "--data-dir", "/d"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let (code, _, err) =
            text(&hub().args(args).stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap());
        assert!(code == Some(1) && err.contains("disk full"), "{args:?}: {err}");
    }
}

#[test]
fn environment_variables_of_the_server_do_not_affect_other_commands() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.wav");
    wav(&file, 1);
    let mut command = hub();
    command.args(["analyze", "--json"]).arg(&file);
    command.env("HUB_HTTP", "127.0.0.1:5000,[::1]:5000").env("HUB_INSECURE", "true").env("HUB_NODE", "http://a:1");
    let (code, out, err) = text(&command.output().unwrap());
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out.lines().count(), 1);
    // Nor do they keep a user from naming the subcommand.
    let mut command = hub();
    command.arg("serve").env("HUB_HTTP", "127.0.0.1:5000").env("HUB_MAX_ANALYSES", "0");
    let (code, _, err) = text(&command.output().unwrap());
    assert!(code == Some(64) && err.contains("HUB_MAX_ANALYSES: 0 is not between 1 and 1000"), "{err}");
}

#[test]
fn help_and_version_are_printed() {
    for args in [&["--help"][..], &["serve", "--help"], &["analyze", "--help"], &["help"]] {
        let (code, out, _) = text(&hub().args(args).output().unwrap());
        assert_eq!(code, Some(0), "{args:?}");
        assert!(out.contains("Usage: hub"), "{args:?}: {out}");
    }
    let (_, out, _) = text(&hub().arg("--help").output().unwrap());
    for word in ["analyze", "serve", "--node <NAME=URL>", "HUB_HTTP", "Exit codes"] {
        assert!(out.contains(word), "{word} is not in {out}");
    }
    let (code, out, _) = text(&hub().arg("--version").output().unwrap());
    assert_eq!((code, out.as_str()), (Some(0), concat!("hub ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn bad_usage_is_64() {
    for args in [&["--nonsense"][..], &["frobnicate"], &["analyze"], &["--only", "fish"], &["--node", "=http://a:1"]] {
        let (code, out, err) = text(&hub().args(args).output().unwrap());
        assert_eq!((code, out.as_str()), (Some(64), ""), "{args:?}");
        assert!(err.contains(args.last().unwrap()) || err.contains("FILE"), "{args:?}: {err}");
    }
}

#[test]
fn one_bad_recording_does_not_stop_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    for (name, seconds) in [("one.wav", 1), ("two.wav", 2)] {
        wav(&folder.join(name), seconds);
    }
    let bad = dir.path().join("bad.wav");
    std::fs::write(&bad, "RIFF, but not really").unwrap();
    let last = dir.path().join("last.wav");
    wav(&last, 3);

    let analyze = |arguments: &[&str]| {
        let mut command = hub();
        command.arg("analyze").args(arguments).args([&folder, &bad, &last]);
        text(&command.output().unwrap())
    };
    let (code, out, err) = analyze(&["--json"]);
    assert_eq!(code, Some(1));
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (failed, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| line["error"].is_string());
    assert_eq!((failed.len(), &failed[0]["file"]), (1, &bad.to_str().unwrap().into()));
    let durations: Vec<_> = lines.iter().map(|line| line["duration_s"].as_f64().unwrap()).collect();
    assert_eq!(durations, [1.0, 2.0, 3.0]);
    assert_eq!(lines[2]["file"], last.to_str().unwrap());
    for line in &lines {
        assert!((0.0..=1.0).contains(&line["cat_score"].as_f64().unwrap()), "{line}");
        assert!(line["detections"].is_array());
    }
    assert_eq!(err.lines().count(), 2);
    assert!(err.starts_with(&format!("{}: ", bad.display())), "{err}");
    assert!(err.contains("3 of 4 files analysed, 1 failed; "), "{err}");

    let (code, out, _) = analyze(&[]);
    assert_eq!(code, Some(1));
    assert!(out.contains(&format!("{}: 3.00 s", last.display())), "{out}");
}

#[test]
fn interrupted_analysis_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["1.wav", "2.wav", "3.wav"] {
        wav(&dir.path().join(name), 1);
    }
    let results = dir.path().join("results.jsonl");
    let analyze = || {
        let mut command = hub();
        command.args(["analyze", "--resume"]).arg(&results).arg(dir.path());
        let (code, out, err) = text(&command.output().unwrap());
        assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
        err
    };
    assert_eq!(analyze(), "");
    let whole = std::fs::read_to_string(&results).unwrap();
    assert_eq!(whole.lines().count(), 3);
    // As after `kill -9` while the second line was written.
    let second = whole.match_indices('\n').next().unwrap().0 + 1;
    std::fs::write(&results, &whole[..second + 20]).unwrap();
    assert_eq!(analyze(), "1 of 3 files were analysed before\n");
    assert_eq!(std::fs::read_to_string(&results).unwrap(), whole);
    assert_eq!(analyze(), "3 of 3 files were analysed before\n");
    assert_eq!(std::fs::read_to_string(&results).unwrap(), whole);

    let recording = dir.path().join("1.wav");
    let before = std::fs::read(&recording).unwrap();
    let (code, _, err) = text(&hub().args(["analyze", "--resume"]).args([&recording, &recording]).output().unwrap());
    assert_eq!(code, Some(64), "{err}");
    assert_eq!(std::fs::read(&recording).unwrap(), before, "a recording in place of the results is not touched");
}

#[test]
fn recordings_of_one_name_in_two_folders_are_both_analysed_into_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let results = root.join("all.jsonl");
    let analyze = |folder: &str, recording: &str| {
        let mut command = hub();
        command.args(["analyze", "--resume", "../all.jsonl", recording]).current_dir(root.join(folder));
        text(&command.output().unwrap())
    };
    for folder in ["n1", "n2"] {
        std::fs::create_dir(root.join(folder)).unwrap();
        wav(&root.join(folder).join("REC1.wav"), 1);
        assert_eq!(analyze(folder, "REC1.wav"), (Some(0), String::new(), String::new()), "{folder}");
    }
    assert_eq!(analyze("n1", "../n2/REC1.wav").2, "1 of 1 files were analysed before\n");
    let names = || -> Vec<String> {
        let lines = std::fs::read_to_string(&results).unwrap();
        let name = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["file"].as_str().unwrap().to_owned();
        lines.lines().map(name).collect()
    };
    assert_eq!(names(), ["n1", "n2"].map(|folder| root.join(folder).join("REC1.wav").display().to_string()));

    // As `hub analyze --json REC1.wav > ../all.jsonl` wrote it in one of the folders.
    let typed = "{\"file\":\"REC1.wav\",\"duration_s\":1.0}\n";
    std::fs::write(&results, typed).unwrap();
    let (code, _, err) = analyze("n2", "REC1.wav");
    assert_eq!(code, Some(64), "{err}");
    assert!(err.contains("line 1: \"REC1.wav\" has no folder"), "{err}");
    assert_eq!(std::fs::read_to_string(&results).unwrap(), typed);
}

#[test]
fn tables_for_editors_are_written_and_never_over_other_files() {
    let dir = tempfile::tempdir().unwrap();
    wav(&dir.path().join("1.wav"), 1);
    let table = dir.path().join("1.wav.labels.txt");
    std::fs::write(&table, "edited by hand\n").unwrap();
    let analyze = |args: &[&str]| {
        let mut command = hub();
        command.args(["analyze", "--format"]).args(args).arg(dir.path());
        text(&command.output().unwrap())
    };
    let (code, _, err) = analyze(&["audacity"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("1.wav.labels.txt exists and has other content; --force overwrites it"), "{err}");
    assert_eq!(std::fs::read_to_string(&table).unwrap(), "edited by hand\n");
    let (code, out, err) = analyze(&["audacity", "--force"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("1.wav: 1.00 s") && out.contains("written to"), "{out}");
    assert_eq!(std::fs::read_to_string(&table).unwrap(), "", "no cat, no label");
    let elsewhere = dir.path().join("out");
    assert_eq!(analyze(&["raven", "--out", elsewhere.to_str().unwrap()]).0, Some(0));
    let raven = std::fs::read_to_string(elsewhere.join("1.Table.1.selections.txt")).unwrap();
    assert!(raven.starts_with("Selection\tView\tChannel\tBegin Time (s)\t"), "{raven}");
}

#[test]
fn analysis_of_a_pipe_without_data_can_be_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.wav");
    wav(&file, 1);
    let mut command = hub();
    command.args(["analyze", "--json"]).arg(&file).arg("-");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The pipe stays open until the program has ended, but no longer than a test may wait.
    let stdin = child.stdin.take();
    let (ended, wait) = channel::<()>();
    let holder = std::thread::spawn(move || {
        let _ = wait.recv_timeout(SOON);
        drop(stdin);
    });
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("a.wav"), "{first}");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let (code, _, err) = text(&child.wait_with_output().unwrap());
    assert_eq!(code, Some(130), "{err}");
    assert!(err.contains("interrupted: 1 of 2 files analysed, 0 failed"), "{err}");
    drop(ended);
    holder.join().unwrap();
}

#[test]
fn start_logs_the_address_of_the_page_the_nodes_and_the_data_folder() {
    let dir = tempfile::tempdir().unwrap();
    let any = "127.0.0.1:0";
    let mut command = hub();
    command.args(["--http", any, "--owner", any, "--dog", any, "--analysis", any, "--node", "Tom=http://127.0.0.1:9"]);
    command.arg("--data-dir").arg(dir.path()).env_remove("RUST_LOG");
    let (_hub, log) = with_log(&mut command);
    wait_for_line(&log, "hub runs roles=");
    let line = wait_for_line(&log, "the page is at ");
    assert!(line.contains("nodes=\"http://127.0.0.1:9\" discovery=on"), "{line}");
    assert!(line.contains(&format!("data_dir={}", dir.path().display())), "{line}");

    let (_, rest) = line.split_once("the page is at http://").unwrap();
    let (address, _) = rest.split_once("/ ").unwrap();
    let mut page = TcpStream::connect(address).unwrap();
    page.set_read_timeout(Some(SOON)).unwrap();
    write!(page, "GET / HTTP/1.1\r\nHost: {address}\r\nAccept: text/html\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    page.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("<html"), "{answer}");
}

#[test]
fn hub_without_the_gateway_logs_no_page() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = hub();
    command.args(["--only", "dog", "--dog", "127.0.0.1:0"]).arg("--data-dir").arg(dir.path()).env_remove("RUST_LOG");
    let (mut hub, log) = with_log(&mut command);
    wait_for_line(&log, "hub runs roles=");
    assert!(Command::new("kill").arg("-TERM").arg(hub.0.id().to_string()).status().unwrap().success());
    assert_eq!(hub.0.wait().unwrap().code(), Some(0));
    let rest: Vec<String> = log.iter().collect();
    assert!(rest.iter().any(|line| line.contains("hub has stopped")), "{rest:?}");
    assert!(rest.iter().all(|line| !line.contains("the page is at")), "{rest:?}");
}

/// Starts a hub. Returns it with the lines that it logs.
fn with_log(command: &mut Command) -> (Running, Receiver<String>) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let (sender, lines) = channel();
    std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    (Running(child), lines)
}

fn wait_for_line(log: &Receiver<String>, part: &str) -> String {
    loop {
        let line = log.recv_timeout(SOON).unwrap_or_else(|error| panic!("no line of the log has {part:?}: {error}"));
        if line.contains(part) {
            return line;
        }
    }
}

#[test]
fn systemd_is_notified_and_a_signal_stops_the_hub_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(SOON)).unwrap();
    let any = "127.0.0.1:0";
    let mut command = hub();
    command.args(["--http", any, "--owner", any, "--dog", any, "--analysis", any]);
    command
        .env("STATE_DIRECTORY", dir.path().join("state"))
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "300000");
    let mut child = Running(command.stderr(Stdio::null()).spawn().unwrap());
    wait_for(&systemd, "READY=1");
    assert!(dir.path().join("state/hub.sqlite").exists());
    wait_for(&systemd, "WATCHDOG=1");
    wait_for(&systemd, "WATCHDOG=1");

    let stopping = Instant::now();
    assert!(Command::new("kill").arg("-TERM").arg(child.0.id().to_string()).status().unwrap().success());
    wait_for(&systemd, "STOPPING=1");
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    // The documentation promises this limit.
    assert!(stopping.elapsed() < Duration::from_secs(5));
}

fn wait_for(systemd: &UnixDatagram, what: &str) {
    let mut bytes = [0; 1024];
    loop {
        let count = systemd.recv(&mut bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
        if String::from_utf8_lossy(&bytes[..count]).lines().any(|line| line == what) {
            return;
        }
    }
}

/// Killed when a test ends early.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn clock_is_accepted_by_a_file_that_the_hub_will_find() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let run = |what: &str, folder: &str| text(&hub().args(["clock", what, "--data-dir", folder]).output().unwrap());
    let (code, said, _) = run("status", folder);
    assert!(code == Some(0) && said.starts_with("kernel: ") && said.contains("no hub has used"), "{said}");
    assert_eq!(run("accept", folder).0, Some(0));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the word to the hub");
    let (code, _, err) = run("accept", "/nonexistent");
    assert!(code == Some(1) && err.contains("/nonexistent") && err.contains("--data-dir"), "{err}");
}
