//! Holds the arrows between crates that `ARCHITECTURE.md` promises do not exist, by the normal dependencies that
//! `cargo metadata` lists. Tests may use more.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::binaries::workspace;
use serde_json::Value;

/// The crates of the hub and the floor that each is on. A crate may use crates of lower floors alone.
const FLOORS: [(&str, u32); 10] = [
    ("hub-base", 1),
    ("hub-store", 2),
    ("hub-nodes", 2),
    ("hub-owner", 3),
    ("hub-people", 3),
    ("hub-listen", 4),
    ("hub-watch", 5),
    ("hub-control", 6),
    ("hub-gateway", 6),
    ("hub", 7),
];

/// Arrows that the floors would allow and the design does not.
const FORBIDDEN: [(&str, &str); 2] = [("hub-owner", "hub-nodes"), ("hub", "cat-node")];

/// Libraries, and the only crates that may know them.
const KNOWN_BY: [(&str, &[&str]); 10] = [
    ("argon2", &["hub-people"]),
    ("axum", &["hub-gateway"]),
    ("utoipa", &["hub-gateway"]),
    ("utoipa-axum", &["hub-gateway"]),
    ("rusqlite", &["hub-store"]),
    ("rumqttc-v4-next", &["hub-owner"]),
    ("cpal", &["cat-node"]),
    ("mdns-sd", &["cat-node", "hub-nodes"]),
    ("ruopus", &["recordings"]),
    ("symphonia", &["recordings"]),
];

/// The normal dependencies of each crate of the workspace.
type Dependencies = BTreeMap<String, BTreeSet<String>>;

fn dependencies() -> Dependencies {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version=1", "--no-deps"]).current_dir(workspace());
    let metadata: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap().iter();
        // Cargo writes null for the kind of a normal dependency.
        all.filter(|one| one["kind"].is_null()).map(|one| word(&one["name"])).collect()
    };
    metadata["packages"].as_array().unwrap().iter().map(|package| (word(&package["name"]), of(package))).collect()
}

/// What is wrong with these dependencies, one sentence each.
fn faults(dependencies: &Dependencies) -> Vec<String> {
    let floor = |name: &str| FLOORS.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, floor)| *floor);
    let mut faults = Vec::new();
    for (user, used) in dependencies {
        for name in used {
            match (floor(user), floor(name)) {
                (Some(from), Some(to)) if to >= from => {
                    faults.push(format!("{user} uses {name}, which is not below it"));
                }
                (None, Some(_)) if user != "e2e" => faults.push(format!("{user} uses {name}, a crate of the hub")),
                _ => {}
            }
            if FORBIDDEN.contains(&(user, name)) {
                faults.push(format!("{user} uses {name}, which is forbidden"));
            }
            if let Some((_, allowed)) = KNOWN_BY.iter().find(|(library, _)| library == name)
                && !allowed.contains(&user.as_str())
                && user != "e2e"
            {
                faults.push(format!("{user} knows {name}; only {} may", allowed.join(" and ")));
            }
        }
        let members = used.iter().filter(|name| dependencies.contains_key(*name));
        if user == "recordings" {
            let others = members.filter(|name| *name != "sound");
            faults.extend(others.map(|name| format!("recordings uses {name}; only sound is below it")));
        } else if ["proto", "sound"].contains(&user.as_str()) {
            faults.extend(members.map(|name| format!("{user} uses {name}, a crate of the workspace")));
        }
    }
    let runtimes = ["tokio", "tonic", "hyper", "futures", "axum"];
    for name in &dependencies["sound"] {
        if runtimes.iter().any(|banned| name == banned || name.starts_with(&format!("{banned}-"))) {
            faults.push(format!("sound is pure signal code and knows {name}"));
        }
    }
    faults
}

#[test]
fn crates_keep_to_their_floors() {
    let dependencies = dependencies();
    for (name, _) in FLOORS {
        assert!(dependencies.contains_key(name), "there is no crate {name}: are the floors out of date?");
    }
    for name in dependencies.keys().filter(|name| name.starts_with("hub")) {
        assert!(FLOORS.iter().any(|(known, _)| known == name), "{name} has no floor");
    }
    for (library, users) in KNOWN_BY {
        for user in users {
            assert!(dependencies[*user].contains(library), "{user} does not use {library}: is the rule out of date?");
        }
    }
    assert_eq!(faults(&dependencies), Vec::<String>::new());
}

#[test]
fn every_kind_of_fault_is_seen() {
    let good = dependencies();
    for (user, used, fault) in [
        ("hub-base", "hub-store", "hub-base uses hub-store, which is not below it"),
        ("hub-store", "hub-nodes", "hub-store uses hub-nodes, which is not below it"),
        ("hub-owner", "hub-nodes", "hub-owner uses hub-nodes, which is forbidden"),
        ("cat-node", "hub-base", "cat-node uses hub-base, a crate of the hub"),
        ("hub", "cat-node", "hub uses cat-node, which is forbidden"),
        ("recordings", "daemon", "recordings uses daemon; only sound is below it"),
        ("hub", "axum", "hub knows axum; only hub-gateway may"),
        ("sound", "proto", "sound uses proto, a crate of the workspace"),
        ("sound", "tokio-util", "sound is pure signal code and knows tokio-util"),
    ] {
        let mut bad = good.clone();
        bad.get_mut(user).unwrap().insert(used.to_owned());
        assert_eq!(faults(&bad), [fault]);
    }
}

#[test]
fn only_the_microphone_knows_cpal() {
    let folder = workspace().join("cat-node/src");
    let inside = |path: &Path| path == Path::new("source/microphone.rs") || path.starts_with("source/microphone");
    let users: Vec<PathBuf> = sources(&folder)
        .into_iter()
        .filter(|path| std::fs::read_to_string(path).unwrap().lines().any(names_cpal))
        .map(|path| path.strip_prefix(&folder).unwrap().to_owned())
        .collect();
    assert!(users.iter().any(|path| inside(path)), "nobody uses cpal: is the rule out of date?");
    assert_eq!(users.iter().filter(|path| !inside(path)).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
}

/// Whether a line of code uses cpal; comments do not count.
fn names_cpal(line: &str) -> bool {
    let code = line.split_once("//").map_or(line, |(code, _)| code);
    let code = code.trim_start();
    let imports = ["use ", "pub use ", "extern crate "].iter().any(|start| code.starts_with(start));
    let words = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    code.contains("cpal::") || imports && words.into_iter().any(|word| word == "cpal")
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found
}
