//! The program as a user starts it: exit codes, and what stands on standard error.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn cat_node(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cat-node"));
    // Settings of the machine that runs the tests must not matter.
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("CAT_NODE_")) {
        command.env_remove(key);
    }
    command.args(args).output().unwrap()
}

fn assert_refused(args: &[&str], naming: &[&str]) {
    let output = cat_node(args);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{args:?}: {said}");
    for name in naming {
        assert!(said.contains(name), "{args:?} says {said}");
    }
}

#[test]
fn bad_usage_exits_with_64_and_names_what_is_wrong() {
    assert_refused(&["--sauce", "synthetic"], &["--sauce"]);
    assert_refused(&["serve", "--source", "mic"], &["\"mic\" is not a source"]);
    assert_refused(&["--owner", "localhost:50051"], &["http://HOST:PORT"]);
    assert_refused(&["--seed", "x"], &["--seed"]);
    assert_refused(&["record", "out.wav"], &["--seconds"]);
    assert_refused(&["purr"], &["purr"]);
}

#[test]
fn bad_config_exits_with_64_and_names_file_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    let path_text = path.to_str().unwrap();
    for (text, key) in [("tape_byte = 1", "tape_byte"), ("source = 5", "source"), ("cat = ", "cat")] {
        std::fs::write(&path, text).unwrap();
        assert_refused(&["--config", path_text], &["node.toml", key]);
    }
    assert_refused(&["--config", "/nowhere/node.toml"], &["/nowhere/node.toml"]);
    std::fs::write(&path, "source = \"synthetic\"\ntape_bytes = 5").unwrap();
    assert_refused(&["--config", path_text], &["tape_bytes", "5 is not between"]);
}

#[test]
fn addresses_beyond_loopback_need_insecure() {
    assert_refused(&["--source", "synthetic", "--listen", "0.0.0.0:0"], &["listen", "0.0.0.0:0", "--insecure"]);
}

#[test]
fn a_port_that_is_taken_is_a_failure_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = cat_node(&["--source", "synthetic", "--listen", &address]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address), "{said}");
}

#[test]
fn environment_lies_under_flags() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cat-node"));
    let output = command.env("CAT_NODE_SOURCE", "nonsense").args(["--cat", "Tom"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("nonsense"));
}

#[test]
fn help_and_version_go_to_standard_output_and_succeed() {
    for args in [&["--help"][..], &["serve", "--help"], &["devices", "--help"], &["record", "--help"], &["--version"]] {
        let output = cat_node(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(output.stdout.len() > 10 && output.stderr.is_empty(), "{args:?}");
    }
    let help = String::from_utf8(cat_node(&["--help"]).stdout).unwrap();
    for word in
        ["--config", "--listen", "--owner", "--cat", "--source", "--seed", "--insecure", "CAT_NODE_LISTEN", "64"]
    {
        assert!(help.contains(word), "{word}");
    }
}

#[test]
fn record_writes_what_the_synthetic_source_makes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.wav");
    let output =
        cat_node(&["record", path.to_str().unwrap(), "--seconds", "2", "--source", "synthetic", "--seed", "9"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let mut reader = hound::WavReader::open(&path).unwrap();
    let recorded: Vec<i16> = reader.samples().map(Result::unwrap).collect();
    assert_eq!((reader.spec().sample_rate, reader.spec().channels, recorded.len()), (16_000, 1, 32_000));
    let mut made = vec![0; 32_000];
    sound::synth::Synth::new(sound::synth::SynthConfig { seed: 9, vocalisations: true }).read(&mut made);
    assert!(recorded == made);
}

#[test]
fn record_names_a_recording_that_cannot_be_played() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.wav");
    std::fs::write(&bad, "not a recording, whatever its name says").unwrap();
    let out = folder.path().join("out.wav");
    let source = format!("wav:{}", bad.display());
    let output = cat_node(&["record", out.to_str().unwrap(), "--seconds", "1", "--source", &source]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("bad.wav"), "{said}");
}
