//! The program as a user starts it: exit codes, and what stands on standard error.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn cat_node(args: &[&str]) -> Output {
    with_variables(&[], args)
}

/// Runs the program with these environment variables for settings, and no others.
fn with_variables(variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cat-node"));
    // Settings of the machine that runs the tests must not matter.
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("CAT_NODE_") || key.starts_with("MEOWLINK_")) {
        command.env_remove(key);
    }
    command.envs(variables.iter().copied()).args(args).output().unwrap()
}

/// What `config show` prints with the synthetic source, which every build has.
fn shown(variables: &[(&str, &str)], args: &[&str]) -> String {
    let output = with_variables(variables, &[&["config", "show", "--source", "synthetic"], args].concat());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
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
fn a_recording_that_does_not_exist_is_a_failure_that_names_it() {
    let output = cat_node(&["--source", "wav:/missing/tom.wav", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("/missing/tom.wav: cannot read the recording: no such file or directory"), "{said}");
}

#[test]
fn folder_without_a_recording_to_play_is_a_failure_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let source = format!("wav:{}", folder.path().display());
    let refused = |why: &str| {
        let output = cat_node(&["--source", &source, "--listen", "127.0.0.1:0"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("{}: {why}", folder.path().display())), "{said}");
    };
    refused("this folder has no WAV file; record some with");
    std::fs::write(folder.path().join("notes.txt"), "no recording").unwrap();
    refused("this folder has no WAV file");
    std::fs::write(folder.path().join("a.wav"), "no RIFF at all").unwrap();
    refused(&format!("this folder has no usable WAV file; {}", folder.path().join("a.wav").display()));
}

#[test]
fn config_that_cannot_be_printed_says_why() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cat-node"));
    let output = command.args(["config", "show", "--source", "synthetic"]).stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("standard output: disk full"), "{said}");
}

#[test]
fn flag_lies_over_environment_over_file_over_default() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    let path = path.to_str().unwrap();
    std::fs::write(path, "cat = \"File\"\nseed = 2\ngain_db = 2.0\ntape_bytes = 64000").unwrap();
    let variables = [
        ("CAT_NODE_CONFIG", path),
        ("CAT_NODE_CAT", "Old"),
        ("CAT_NODE_SEED", "3"),
        ("MEOWLINK_NODE_SEED", "4"),
        ("MEOWLINK_NODE_GAIN_DB", "-5"),
    ];
    let shown = shown(&variables, &["--gain-db", "-6"]);
    for (value, origin) in [
        ("cat = \"Old\"", "CAT_NODE_CAT"),
        ("seed = 4", "MEOWLINK_NODE_SEED"),
        ("gain_db = -6.0", "--gain-db"),
        ("tape_bytes = 64000", &format!("{path}:4")),
        ("source = \"synthetic\"", "--source"),
        ("announce = true", "default"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(value)).unwrap_or_else(|| panic!("{value}: {shown}"));
        assert!(line.ends_with(&format!("# {origin}")), "{line}");
    }
}

#[test]
fn every_setting_has_both_variables() {
    let values = [
        ("LISTEN", "127.0.0.1:1,[::1]:2", "listen = [\"127.0.0.1:1\", \"[::1]:2\"]"),
        ("OWNER", "http://a:1", "owner = \"http://a:1\""),
        ("OWNER_TIMEOUT_MS", "5", "owner_timeout_ms = 5"),
        ("CAT", "Tom", "cat = \"Tom\""),
        ("SEED", "5", "seed = 5"),
        ("WAV_ONCE", "true", "wav_once = true"),
        ("CHANNEL", "left", "channel = \"left\""),
        ("GAIN_DB", "1.5", "gain_db = 1.5"),
        ("SILENT_AFTER_S", "5", "silent_after_s = 5"),
        ("TAPE_BYTES", "64000", "tape_bytes = 64000"),
        ("SPILL_DIR", "/tape", "spill_dir = \"/tape\""),
        ("SPILL_BYTES", "2000000", "spill_bytes = 2000000"),
        ("ANNOUNCE", "false", "announce = false"),
        ("INSECURE", "true", "insecure = true"),
        ("LOG_FORMAT", "json", "log_format = \"json\""),
    ];
    for prefix in ["CAT_NODE_", "MEOWLINK_NODE_"] {
        let names: Vec<_> = values.iter().map(|(name, ..)| format!("{prefix}{name}")).collect();
        let variables: Vec<_> =
            names.iter().zip(&values).map(|(name, (_, value, _))| (name.as_str(), *value)).collect();
        let shown = shown(&variables, &[]);
        for (name, (.., line)) in names.iter().zip(&values) {
            assert!(shown.lines().any(|shown| shown.starts_with(line) && shown.ends_with(name)), "{line}: {shown}");
        }
    }
    let output = with_variables(&[("CAT_NODE_SOURCE", "nonsense")], &["--cat", "Tom"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("nonsense"));
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    for (name, value, said) in [
        ("MEOWLINK_NODE_TAPE_BYTES", "5", "MEOWLINK_NODE_TAPE_BYTES: 5 is not between"),
        ("CAT_NODE_TAPE_BYTES", "many", "CAT_NODE_TAPE_BYTES: \"many\" is not a whole number"),
        ("MEOWLINK_NODE_GAIN", "1", "did you mean MEOWLINK_NODE_GAIN_DB?"),
    ] {
        let output = with_variables(&[(name, value)], &["--source", "synthetic"]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{error}");
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn shown_config_is_a_config_file_that_shows_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    let first = shown(&[("MEOWLINK_NODE_CAT", "Tom \"the\" # cat")], &["--listen", "[::1]:1", "--gain-db", "-0.1"]);
    std::fs::write(&path, &first).unwrap();
    let again = shown(&[], &["--config", path.to_str().unwrap()]);
    let values = |text: &str| toml::from_str::<toml::Table>(text).unwrap();
    assert_eq!(values(&again), values(&first));
    assert_eq!(values(&first)["cat"].as_str(), Some("Tom \"the\" # cat"));
    let json: serde_json::Value =
        serde_json::from_str(&shown(&[], &["--json", "--config", path.to_str().unwrap()])).unwrap();
    assert_eq!((&json["gain_db"]["value"], &json["gain_db"]["from"]), (&(-0.1).into(), &"file".into()));
}

#[test]
fn config_show_refuses_what_serve_refuses() {
    assert_refused(&["config", "show", "--tape-bytes", "5"], &["--tape-bytes: 5 is not between"]);
    assert_refused(&["config", "show", "--config", "/nowhere/node.toml"], &["/nowhere/node.toml"]);
}

#[test]
fn schema_is_json() {
    let schema: serde_json::Value = serde_json::from_slice(&cat_node(&["config", "schema"]).stdout).unwrap();
    assert_eq!(schema["properties"]["tape_bytes"]["default"], 19_200_000);
    assert_eq!(schema["properties"]["tape_bytes"]["minimum"], 32_000);
}

#[test]
fn help_and_version_go_to_standard_output_and_succeed() {
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["devices", "--help"],
        &["record", "--help"],
        &["config", "show", "--help"],
        &["--version"],
    ] {
        let output = cat_node(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(output.stdout.len() > 10 && output.stderr.is_empty(), "{args:?}");
    }
    let help = String::from_utf8(cat_node(&["--help"]).stdout).unwrap();
    for word in
        ["--config", "--listen", "--owner", "--cat", "--source", "--seed", "--insecure", "MEOWLINK_NODE_LISTEN", "64"]
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
    std::fs::write(&out, "an earlier recording").unwrap();
    let source = format!("wav:{}", bad.display());
    let output = cat_node(&["record", out.to_str().unwrap(), "--seconds", "1", "--source", &source]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("bad.wav"), "{said}");
    assert_eq!(std::fs::read(&out).unwrap(), b"an earlier recording");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
}

#[test]
fn record_that_is_stopped_before_there_is_audio_leaves_nothing_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.wav");
    std::fs::write(&bad, "not a recording, whatever its name says").unwrap();
    let out = folder.path().join("out.wav");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cat-node"));
    command.args(["record", out.to_str().unwrap(), "--seconds", "3600", "--source"]);
    let child = command.arg(format!("wav:{}", bad.display())).stderr(Stdio::piped()).spawn().unwrap();
    // It listens to signals before it creates the file.
    let start = Instant::now();
    while std::fs::read_dir(folder.path()).unwrap().count() < 2 {
        assert!(start.elapsed() < Duration::from_secs(30), "nothing is recorded");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("nothing is recorded"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn password_of_a_camera_is_shown_neither_among_the_settings_nor_in_errors() {
    let source = "rtsp://anna:s3cret@camera/stream?token=s3cret&rate=1";
    let output = with_variables(&[], &["config", "show", "--source", source]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("rtsp://anna:***@camera/stream?token=***&rate=1"), "{said}");
    assert!(!said.contains("s3cret"), "{said}");
    let in_path = "rtsp://camera/user=anna&password=s3cret&channel=1";
    let output = with_variables(&[], &["config", "show", "--source", in_path]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("user=anna&password=***&channel=1") && !said.contains("s3cret"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.toml");
    for source in [
        "rtsp://anna:s3cret@camera:99999/",
        "rtsp://anna:s3cret/x@camera",
        "rstp://anna:s3cret@camera/",
        "rtsp://camera:99999/password=s3cret",
        "RTSP://camera/password=s3cret",
    ] {
        std::fs::write(&path, format!("source = \"{source}\"")).unwrap();
        for args in [["--source", source], ["--config", path.to_str().unwrap()]] {
            let output = cat_node(&args);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(64), "{args:?}: {said}");
            assert!(said.contains("***") && !said.contains("s3cret"), "{args:?} says {said}");
        }
    }
}

#[test]
fn level_of_a_source_is_shown_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("half.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for sample in [16_384_i16, -16_384].repeat(16_000) {
        writer.write_sample(sample).unwrap();
    }
    writer.finalize().unwrap();
    let output = cat_node(&["listen", "--level", "--once", "--source", &format!("wav:{}", path.display())]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("#|") && said.contains("  -6.0 dBFS, peak   -6.0"), "{said}");
}

#[test]
fn level_of_a_source_that_gives_nothing_ends_with_the_reason() {
    // The port was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = format!("http://127.0.0.1:{port}/audio?rate=16000&format=s16");
    let output = cat_node(&["listen", "--level", "--source", &source]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no sound within 10 s") && said.contains("refused"), "{said}");
}
