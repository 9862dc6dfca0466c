//! A running program under test. Its log is shown if the test fails, and it is killed at the end of the test.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// Bytes at the end of the log that a failed test shows.
const SHOWN_LOG_BYTES: usize = 20_000;

/// A program under test. It is killed on drop.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    folder: tempfile::TempDir,
}

impl Daemon {
    /// Starts a program, without the environment variables that the daemons read.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start<S: AsRef<OsStr>>(name: &str, program: &Path, arguments: &[S]) -> Self {
        Self::start_within(&[], name, program, arguments)
    }

    /// As [`Daemon::start`], by a command that replaces itself with the program, such as `ip netns exec NAME`. An empty
    /// wrapper starts the program itself.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_within<S: AsRef<OsStr>>(wrapper: &[String], name: &str, program: &Path, arguments: &[S]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = File::create(folder.path().join("log")).expect("a log file");
        let mut command = match wrapper {
            [] => Command::new(program),
            [wrapper, words @ ..] => {
                let mut command = Command::new(wrapper);
                command.args(words).arg(program);
                command
            }
        };
        command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
        scrub_environment(&mut command);
        let child = command
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        Self { name: name.to_owned(), child, folder }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory of the process in RAM, in bytes: now, and the most it ever had. Linux counts it in `/proc`.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process runs");
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of Linux");
            line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
        };
        Memory { now: bytes("VmRSS:"), most: bytes("VmHWM:") }
    }

    /// All that the program has written to standard output and standard error.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.rustix_pid(), signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Kills the program without warning (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        // Errors mean that it is already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether the program still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until the program ends. Returns its exit status and how long that took.
    ///
    /// # Panics
    /// If it still runs after `deadline`.
    pub async fn exit(&mut self, deadline: Duration) -> (ExitStatus, Duration) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                return (status, start.elapsed());
            }
            assert!(start.elapsed() < deadline, "{} still runs after {deadline:?}", self.name);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn rustix_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let mut from = log.len().saturating_sub(SHOWN_LOG_BYTES);
            while !log.is_char_boundary(from) {
                from += 1;
            }
            #[allow(clippy::print_stderr)] // The test harness shows it with the failure.
            {
                eprintln!("--- log of {} ---\n{}--- end ---", self.name, &log[from..]);
            }
        }
    }
}

/// Memory of a process in RAM, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Now.
    pub now: u64,
    /// The most that it ever had.
    pub most: u64,
}

/// Runs a program that ends by itself.
///
/// # Panics
/// If it cannot be started.
pub fn run<S: AsRef<OsStr>>(program: &Path, arguments: &[S], environment: &[(&str, &str)]) -> Finished {
    let mut command = Command::new(program);
    scrub_environment(&mut command);
    let output = command
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The result of a program that ended by itself.
#[derive(Debug)]
pub struct Finished {
    /// Exit code. `None`: a signal ended the program.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

fn scrub_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let of_a_program =
            ["MEOWLINK_NODE_", "MEOWLINK_HUB_", "CAT_NODE_", "HUB_"].iter().any(|start| text.starts_with(start));
        if of_a_program || text == "NOTIFY_SOCKET" {
            command.env_remove(&name);
        }
    }
    command.env("RUST_LOG", "info").env("RUST_BACKTRACE", "1");
}
