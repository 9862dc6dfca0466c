//! Tests in namespaces of their own, such as a network that nobody else uses: the test starts itself a second time in
//! them. The kernel removes them with the test, however it ends.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::binaries::binaries;

/// Set in the second process.
const INSIDE: &str = "MEOWLINK_TEST_NAMESPACES";

/// Runs a test in a process of its own, in new namespaces: options of `unshare`, such as `--net`. `name` is the full
/// name of the test. Without the rights for the namespaces, or for the shell commands `needed`, which the test begins
/// with too, the test is skipped: this is said on standard error, and the summary counts it.
///
/// # Panics
/// If the test fails.
pub fn inside<F: Future<Output = ()>>(name: &str, namespaces: &[&str], needed: &str, test: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(test());
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(namespaces);
        command
    };
    match unshare().args(["sh", "-ec", needed]).output() {
        Ok(tried) if tried.status.success() => {}
        tried => {
            let why =
                tried.map_or_else(|error| error.to_string(), |tried| String::from_utf8_lossy(&tried.stderr).into());
            // Bypasses the test harness, which hides the output of passing tests. The summary counts the second line.
            let skipped = format!("\nSKIPPED: {name}: no namespaces: {why}\n0 passed, 0 failed, 1 skipped\n");
            return std::io::stderr().write_all(skipped.as_bytes()).expect("standard error");
        }
    }
    // The binaries are built here, because cargo may not work in the new namespaces.
    let folder = binaries().hub.parent().unwrap_or(Path::new("."));
    let inside = unshare()
        .arg(std::env::current_exe().expect("the program of this test"))
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .env("MEOWLINK_BINARIES", folder)
        .output()
        .expect("the test starts again");
    let said = String::from_utf8_lossy(&inside.stdout) + String::from_utf8_lossy(&inside.stderr);
    assert!(inside.status.success() && said.contains("1 passed"), "{said}");
}
