//! Finds the binaries. Each test process builds them once, with the cargo that runs the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// Environment variable for a folder with binaries to test, such as installed ones, instead of building them.
const FOLDER_VARIABLE: &str = "MEOWLINK_BINARIES";

/// The two programs.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// Path of `cat-node`.
    pub cat_node: PathBuf,
    /// Path of `hub`.
    pub hub: PathBuf,
}

/// The programs under test.
///
/// # Panics
/// If they do not build.
pub fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| match std::env::var_os(FOLDER_VARIABLE) {
        Some(folder) => {
            let folder = PathBuf::from(folder);
            Binaries { cat_node: folder.join("cat-node"), hub: folder.join("hub") }
        }
        None => build(),
    })
}

/// The folder of the workspace.
///
/// # Panics
/// Never: this crate lies in the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// Builds the programs, because cargo builds a program only for the tests of its own package. The profile and the
/// target folder are those of the tests, so that there is usually nothing left to build.
fn build() -> Binaries {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--bins", "-p", "cat-node", "-p", "hub", "--message-format=json-render-diagnostics"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let output = cargo.current_dir(workspace()).output().expect("cargo starts");
    assert!(output.status.success(), "the daemons do not build:\n{}", String::from_utf8_lossy(&output.stderr));
    let messages = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    Binaries { cat_node: executable(&messages, "cat-node"), hub: executable(&messages, "hub") }
}

fn executable(messages: &str, name: &str) -> PathBuf {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .unwrap_or_else(|| panic!("cargo did not report an executable for {name}"))
}
