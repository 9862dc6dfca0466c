//! Holds the arrows between crates and modules that `ARCHITECTURE.md` promises do not exist.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::binaries::workspace;
use serde_json::Value;

/// Names of the packages that a package of the workspace declares, of all kinds (build and tests too).
fn declared(metadata: &Value, package: &str) -> Vec<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let found = packages.iter().find(|found| found["name"] == package).unwrap_or_else(|| panic!("no crate {package}"));
    let dependencies = found["dependencies"].as_array().unwrap();
    dependencies.iter().map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version=1", "--no-deps"]).current_dir(workspace());
    serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
}

fn members(metadata: &Value) -> Vec<String> {
    metadata["packages"].as_array().unwrap().iter().map(|member| member["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn proto_and_sound_depend_on_no_crate_of_the_workspace() {
    let metadata = metadata();
    let members = members(&metadata);
    assert!(members.iter().any(|member| member == "sound") && members.len() >= 5, "{members:?}");
    for package in ["proto", "sound"] {
        for name in declared(&metadata, package) {
            assert!(!members.contains(&name), "{package} depends on {name}");
        }
    }
}

#[test]
fn sound_is_pure_signal_code() {
    for name in declared(&metadata(), "sound") {
        let runtime = ["tokio", "tonic", "cpal", "axum", "hyper", "rusqlite", "futures"];
        assert!(!runtime.iter().any(|banned| name == *banned || name.starts_with(&format!("{banned}-"))), "{name}");
    }
}

#[test]
fn the_daemons_do_not_depend_on_each_other() {
    let metadata = metadata();
    let (node, hub) = (declared(&metadata, "cat-node"), declared(&metadata, "hub"));
    assert!(node.iter().any(|name| name == "proto") && hub.iter().any(|name| name == "proto"));
    assert!(!node.iter().any(|name| name == "hub") && !hub.iter().any(|name| name == "cat-node"));
}

#[test]
fn only_the_microphone_knows_cpal() {
    holds("cpal", |path| {
        path == Path::new("cat-node/src/source/microphone.rs") || path.starts_with("cat-node/src/source/microphone")
    });
}

#[test]
fn only_the_gateway_knows_axum() {
    holds("axum", |path| path.starts_with("hub/src/gateway"));
}

#[test]
fn only_the_store_speaks_sql() {
    holds("rusqlite", |path| path.starts_with("hub/src/store"));
    for (path, code) in sources() {
        if path.starts_with("hub/src") && !path.starts_with("hub/src/store") {
            for statement in ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "CREATE TABLE ", "PRAGMA "] {
                assert!(!code.contains(&format!("\"{statement}")), "{}: {statement}", path.display());
            }
        }
    }
}

#[test]
fn the_scan_sees_a_use_and_overlooks_a_comment() {
    let used = |code: &str| uses(&without_comments(code), "axum");
    assert!(used("use axum::Router;") && used("    axum::serve(x)") && used("use utoipa_axum::router;"));
    assert!(used("extern crate axum;") && used("use axum as web;") && used("use {axum, http};"));
    assert!(!used("// axum::Router") && !used("x(); // use axum;") && !used("let maximum = 1;") && !used("//! axum"));
}

/// Every source file that uses the crate `name` is an allowed one, and there is one at least.
fn holds(name: &str, allowed: impl Fn(&Path) -> bool) {
    let users: Vec<PathBuf> =
        sources().into_iter().filter(|(_, code)| uses(code, name)).map(|(path, _)| path).collect();
    assert!(users.iter().any(|path| allowed(path)), "nobody uses {name}: is the rule out of date?");
    for path in &users {
        assert!(allowed(path), "{} uses {name}", path.display());
    }
}

/// Whether code, without its comments, names a crate: as a path, or in a `use` or `extern crate`.
fn uses(code: &str, name: &str) -> bool {
    code.lines().any(|line| {
        let import = line.trim_start();
        let import = import.strip_prefix("pub ").unwrap_or(import);
        let imports = import.starts_with("use ") || import.starts_with("extern crate ");
        line.contains(&format!("{name}::")) || imports && words(line).any(|word| word == name)
    })
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_')
}

fn without_comments(code: &str) -> String {
    code.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code)).collect::<Vec<_>>().join("\n")
}

/// The sources of the daemons and their libraries, paths relative to the workspace, without comments.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders: Vec<PathBuf> =
        ["cat-node", "daemon", "hub", "proto", "sound"].map(|member| workspace().join(member)).into();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let code = without_comments(&std::fs::read_to_string(&path).unwrap());
                found.push((path.strip_prefix(workspace()).unwrap().to_owned(), code));
            }
        }
    }
    found
}
