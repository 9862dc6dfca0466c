//! The node with cameras: an RTSP server of GStreamer. Start it with `run` in this folder, which explains more.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // Helpers of tests panic too, and print what they measured.

#[allow(dead_code)]
#[path = "../microphone/wave.rs"]
mod wave;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use e2e::binaries::{binaries, workspace};
use e2e::daemon::{Signal, run};
use e2e::node::{Node, NodeOptions};
use e2e::ports;
use e2e::wait::{SOON, until};
use proto::{DescribeResponse, SourceState};
use rustix::process::{Pid, kill_process};

/// Names the folder that `run` created.
const FOLDER_VARIABLE: &str = "MEOWLINK_CAMERA_DIR";

fn folder() -> PathBuf {
    std::env::var_os(FOLDER_VARIABLE).expect("start this test by e2e/network/run").into()
}

/// Cameras. Killed when dropped.
struct Cameras {
    child: Child,
    port: u16,
}

impl Cameras {
    fn start(port: u16) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .arg(workspace().join("e2e/network/camera.py"))
            .arg(port.to_string())
            .arg(folder().join("tone.m4a"))
            .stdout(Stdio::piped())
            .spawn()
            .expect("python starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { child, port }
    }

    fn new() -> Self {
        Self::start(ports::free().port())
    }

    fn url(&self, path: &str) -> String {
        format!("rtsp://127.0.0.1:{}/{path}", self.port)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the cameras are running");
    }
}

impl Drop for Cameras {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn node(source: &str) -> Node {
    let source = source.into();
    Node::start(NodeOptions { source, ..NodeOptions::new("http://127.0.0.1:1") }).await
}

async fn reaches(node: &Node, wanted: SourceState) -> DescribeResponse {
    until(SOON, &format!("the source is {wanted:?}"), || async {
        let description = node.describe().await;
        (description.source.as_ref().unwrap().state() == wanted).then_some(description)
    })
    .await
}

/// Records three seconds of a tone, and checks it.
async fn tone_comes_from(source: String) {
    let out = folder().join("tone.wav");
    let arguments = ["record".into(), out.display().to_string(), "--seconds".into(), "3".into(), "--source".into()];
    let arguments: Vec<String> = arguments.into_iter().chain([source.clone()]).collect();
    let recorded = tokio::task::spawn_blocking(move || {
        run(&binaries().cat_node, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), &[])
    });
    let recorded = recorded.await.unwrap();
    assert_eq!(recorded.code, Some(0), "{source}: {}", recorded.stderr);
    let (samples, _) = wave::read(&out);
    let sine = wave::fit_sine(&samples[16_000..]);
    println!("{source}: {:.3} Hz, amplitude {:.3}, {} breaks", sine.frequency_hz, sine.amplitude, sine.breaks.len());
    // The codings lose some of the sound, which the estimate takes for a part of the tone.
    assert!((sine.frequency_hz - 440.0).abs() < 10.0, "{source}: {} Hz", sine.frequency_hz);
    assert!(sine.amplitude > 0.05, "{source}: amplitude {}", sine.amplitude);
}

#[tokio::test]
async fn cameras_are_heard_in_each_coding_and_over_tcp_and_udp() {
    let cameras = Cameras::new();
    for path in ["alaw", "mulaw", "l16", "aac", "both", "udp"] {
        tone_comes_from(cameras.url(path)).await;
    }
    tone_comes_from(cameras.url("alaw").replace("rtsp://", "rtsp+udp://")).await;
}

#[tokio::test]
async fn camera_that_is_cut_or_hangs_is_heard_again_and_the_gap_is_told() {
    let cameras = Cameras::new();
    let node = node(&cameras.url("alaw")).await;
    reaches(&node, SourceState::Capturing).await;
    cameras.signal(Signal::STOP);
    reaches(&node, SourceState::NoDevice).await;
    cameras.signal(Signal::CONT);
    reaches(&node, SourceState::Capturing).await;
    let port = cameras.port;
    drop(cameras);
    let lost = reaches(&node, SourceState::NoDevice).await;
    assert!(!lost.source.unwrap().detail.is_empty(), "the node gives no reason");
    let _again = Cameras::start(port);
    let description = reaches(&node, SourceState::Capturing).await;
    let counters = description.counters.unwrap();
    assert!(counters.source_restarts >= 2 && counters.frames_lost_device > 0, "{counters:?}");
    let source = description.source.unwrap();
    assert_eq!((source.kind.as_str(), source.device), ("rtsp", format!("rtsp://127.0.0.1:{port}/alaw")));
}

#[tokio::test]
async fn password_opens_a_camera_and_is_shown_nowhere() {
    let cameras = Cameras::new();
    let with = |login: &str| cameras.url("locked").replace("rtsp://", &format!("rtsp://{login}@"));
    let right = node(&with("anna:pa%3Ass")).await;
    let description = reaches(&right, SourceState::Capturing).await;
    let wrong = node(&with("anna:wr0ng")).await;
    let refused = reaches(&wrong, SourceState::NoDevice).await;
    let detail = &refused.source.as_ref().unwrap().detail;
    assert!(detail.contains("the user or the password"), "{detail}");
    for (node, description) in [(&right, description), (&wrong, refused)] {
        let shown = format!("{}{description:?}", node.daemon.log());
        for secret in ["pa:ss", "pa%3Ass", "wr0ng"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("anna:***@"), "{shown}");
    }
}

#[tokio::test]
async fn camera_without_sound_says_what_to_do() {
    let cameras = Cameras::new();
    let node = node(&cameras.url("video")).await;
    let detail = reaches(&node, SourceState::NoDevice).await.source.unwrap().detail;
    assert!(detail.contains("no sound; switch on the microphone"), "{detail}");
}
