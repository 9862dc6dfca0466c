//! A private sound server. The microphone records what is played to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use e2e::daemon::Signal;
use e2e::wait::{SOON, until};
use rustix::process::{Pid, kill_process};

/// Names the folder that `run` created for the server. `PULSE_SERVER` points there too.
const FOLDER_VARIABLE: &str = "MEOWLINK_PULSE_DIR";

/// A running PulseAudio with a null sink of 48 kHz whose monitor is the default source. Killed when dropped.
pub(crate) struct Pulse {
    child: Child,
}

impl Pulse {
    /// Starts the server and waits until it answers.
    pub(crate) async fn start() -> Self {
        let folder = folder();
        let socket = folder.join("native");
        // A killed server leaves its socket behind.
        let _ = fs::remove_file(&socket);
        let runtime = folder.join("runtime");
        fs::create_dir_all(&runtime).unwrap();
        // Without `norewinds`, the null sink discards and renders again what a monitor has already read.
        let script = format!(
            "load-module module-native-protocol-unix socket={} auth-anonymous=1\n\
             load-module module-null-sink sink_name=room rate=48000 channels=1 norewinds=1\n\
             load-module module-rescue-streams\n\
             set-default-sink room\nset-default-source room.monitor\n",
            socket.display()
        );
        fs::write(folder.join("server.pa"), script).unwrap();
        let log = fs::File::create(folder.join("server.log")).unwrap();
        let child = Command::new("pulseaudio")
            .args(["-n", "-F"])
            .arg(folder.join("server.pa"))
            .args(["--daemonize=no", "--exit-idle-time=-1", "--disallow-exit=no", "--use-pid-file=no"])
            .args(["--realtime=no", "--high-priority=no", "--log-target=stderr", "--log-level=warn"])
            .env("PULSE_RUNTIME_PATH", &runtime)
            .env("PULSE_STATE_PATH", &runtime)
            .env("HOME", &folder)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("pulseaudio starts");
        let pulse = Self { child };
        until(SOON, "the sound server answers", || async {
            let asked = Command::new("pactl").arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status();
            asked.is_ok_and(|status| status.success()).then_some(())
        })
        .await;
        pulse
    }

    /// Sends a signal to the server.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the sound server is running");
    }

    /// Kills it, like a crash.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Errors mean that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.end();
    }
}

/// Asks the server for something. Returns what it answers.
pub(crate) fn pactl(arguments: &[&str]) -> String {
    let asked = Command::new("pactl").args(arguments).output().expect("pactl starts");
    assert!(asked.status.success(), "pactl {arguments:?}: {}", String::from_utf8_lossy(&asked.stderr));
    String::from_utf8(asked.stdout).expect("pactl writes text").trim().to_owned()
}

/// Plugs in a microphone that records the room. Returns the number by which `pactl unload-module` unplugs it.
pub(crate) fn plug_in(name: &str) -> String {
    pactl(&["load-module", "module-remap-source", "master=room.monitor", &format!("source_name={name}")])
}

/// Sets whether clients and server share memory from now on. If they do, the clients of a killed server get no error.
pub(crate) fn set_shared_memory(enabled: bool) {
    let shm = if enabled { "yes" } else { "no" };
    fs::write(folder().join("client.conf"), format!("autospawn = no\nenable-shm = {shm}\n")).unwrap();
}

/// Plays something into the room. Stopped when dropped.
pub(crate) struct Player {
    child: Child,
}

impl Player {
    /// Plays a WAV file, and waits until the player is connected.
    pub(crate) async fn play(wav: &Path) -> Self {
        let child = Command::new("paplay")
            .arg("--device=room")
            .arg(wav)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("paplay starts");
        let player = Self { child };
        until(SOON, "the player is connected", || async {
            let listed = Command::new("pactl").args(["list", "short", "sink-inputs"]).output().ok()?;
            (!listed.stdout.is_empty()).then_some(())
        })
        .await;
        player
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder that `run` created.
pub(crate) fn folder() -> PathBuf {
    let folder = std::env::var_os(FOLDER_VARIABLE).expect("start this test by e2e/microphone/run");
    PathBuf::from(folder)
}
