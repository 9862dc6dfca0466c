//! Backups of a running hub, and their way back, by the commands of `docs/backup-and-upgrade.md`.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use e2e::binaries::{binaries, workspace};
use e2e::http::exchange;
use e2e::hub::{Addresses, Hub};
use e2e::node::{Node, NodeOptions};
use e2e::wait::{SOON, until};
use serde_json::Value;

/// A backup of a few megabytes ends well within this time on a slow machine.
const MADE: Duration = Duration::from_secs(60);

/// A hub that has heard two meows, and its node.
async fn at_work(config: &str) -> (Hub, Node) {
    let at = Addresses::free();
    let meows = format!("wav:{}", workspace().join("demo/meows").display());
    let node = Node::start(NodeOptions { source: meows, ..NodeOptions::new(format!("http://{}", at.owner)) }).await;
    let hub = Hub::start_with_config(at, &[("Tom", &node.url())], config).await;
    until(SOON, "two events are stored", || async { (clips(&hub).await.len() >= 2).then_some(()) }).await;
    (hub, node)
}

/// The bytes of the clips, by the number of their event.
async fn clips(hub: &Hub) -> BTreeMap<i64, Vec<u8>> {
    let answer = hub.get("/api/v1/events?limit=500").await.json();
    let mut clips = BTreeMap::new();
    for event in answer["events"].as_array().unwrap() {
        if let Some(url) = event["clip"]["url"].as_str() {
            let clip = hub.get(url).await;
            assert_eq!(clip.status, 200, "{url}");
            clips.insert(event["id"].as_i64().unwrap(), clip.body);
        }
    }
    clips
}

/// The lines of the page that call `hub`, for these folders, without `sudo`.
fn commands(of_the_page: &str, hub: &Hub, disk: &Path) -> Vec<String> {
    let page = std::fs::read_to_string(workspace().join("docs/backup-and-upgrade.md")).unwrap();
    let start = format!("sudo hub {of_the_page} ");
    let data_dir = hub.data_folder().display().to_string();
    let lines = page.lines().filter(|line| line.starts_with(&start));
    lines
        .map(|line| {
            line.replace("sudo hub", &binaries().hub.display().to_string())
                .replace("/etc/meowlink", &data_dir)
                .replace("/var/lib/meowlink-hub", &data_dir)
                .replace("/mnt/usb", &disk.display().to_string())
                .replace("ssh nas 'cat > meowlink.tar'", &format!("cat > {}/piped.tar", disk.display()))
        })
        .collect()
}

fn shell(line: &str) -> Output {
    Command::new("sh").args(["-c", line]).output().unwrap()
}

fn ran(line: &str) -> String {
    let done = shell(line);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{line}: {said}");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_back_after_the_data_folder_was_destroyed() {
    let config =
        "[page]\nlive_audio = false\n[mqtt]\nurl = \"mqtt://127.0.0.1:1\"\nusername = \"anna\"\npassword = \"pst\"\n";
    let (mut hub, node) = at_work(config).await;
    let label = serde_json::json!({ "label": "brushing" });
    assert_eq!(hub.put_json("/api/v1/events/1/label", &label).await.status, 200);
    let disk = tempfile::tempdir().unwrap();
    let lines = commands("backup", &hub, disk.path());
    assert_eq!(lines.len(), 3, "a folder, an archive, a pipe: {lines:?}");
    let before = clips(&hub).await;
    for line in &lines {
        // The hub goes on hearing meanwhile.
        let said = ran(line);
        assert!(said.contains("Backed up to") && said.contains("1 labelled"), "{said}");
    }
    let again = ran(&lines[0]);
    assert!(!again.contains(&format!("({} new)", before.len())), "the second copies new clips alone: {again}");
    let state = hub.get("/api/v1/backup").await.json();
    assert!(state["last"]["to"].as_str().unwrap().ends_with("/meowlink"), "{state}");
    let restore = &commands("restore", &hub, disk.path())[0];
    let refused = shell(restore);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("another hub uses this data directory"), "{words}");

    drop(node);
    for from in ["meowlink", "meowlink.tar", "piped.tar"] {
        hub.daemon.kill();
        for entry in std::fs::read_dir(hub.data_folder()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.unwrap();
        }
        let said = ran(&restore.replace("/meowlink --data-dir", &format!("/{from} --data-dir")));
        assert!(said.contains("Missing: nothing.") && said.contains("1 labelled"), "{said}");
        let settings = hub.data_folder().join("restored-config/hub.toml");
        let settings = std::fs::read_to_string(settings).unwrap();
        assert!(settings.contains("live_audio = false") && !settings.contains("pst"), "{from}: {settings}");
        std::fs::write(hub.data_folder().join("hub.toml"), "").unwrap();
        hub = hub.restart().await;
        let after = clips(&hub).await;
        for (id, clip) in &before {
            assert!(after.get(id) == Some(clip), "{from}: the clip of event {id} is back and plays");
        }
        let labelled = hub.get("/api/v1/events/1").await.json();
        assert_eq!(labelled["label"], "brushing", "{from}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restore_leaves_mount_points_where_they_are() {
    let as_root = if rustix::process::geteuid().is_root() { "" } else { "--user --map-root-user" };
    let unshare = format!("unshare --mount {as_root} sh -ec");
    if !shell(&format!("{unshare} 'mount -t tmpfs tmpfs /mnt'")).status.success() {
        let skipped = "\nSKIPPED: restore on mount points: cannot mount\n0 passed, 0 failed, 1 skipped\n";
        return std::io::stderr().write_all(skipped.as_bytes()).unwrap();
    }
    let (hub, _node) = at_work("").await;
    let disk = tempfile::tempdir().unwrap();
    ran(&commands("backup", &hub, disk.path())[0]);
    let data_dir = hub.data_folder().display().to_string();
    let restore = commands("restore", &hub, disk.path())[0].replace(&data_dir, "/mnt");
    let script = format!(
        "mount -t tmpfs tmpfs /mnt; mkdir /mnt/clips /mnt/lost+found; mount -t tmpfs tmpfs /mnt/clips; \
         {restore}; {restore}; find /mnt"
    );
    let done = shell(&format!("{unshare} '{script}'"));
    let (found, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.matches("Missing: nothing.").count() == 2, "{said}");
    let clips = |aside: bool| {
        let is_clip = |path: &&str| path.starts_with("/mnt/clips/") && path.ends_with(".wav");
        found.lines().filter(is_clip).filter(|path| path.contains("/before-restore-") == aside).count()
    };
    assert!(clips(false) >= 2 && clips(true) == clips(false), "what was there is aside on its own disk: {found}");
    assert!(found.contains("/mnt/lost+found") && !found.contains(".part"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn button_backs_up_to_the_configured_folder_and_says_how_it_went() {
    let disk = tempfile::tempdir().unwrap();
    let to = disk.path().join("meowlink");
    let (hub, _node) = at_work(&format!("[backup]\nto = {to:?}\nkeep = 2\n")).await;
    let ended = || {
        until(MADE, "the backup has ended", || async {
            let state = hub.get("/api/v1/backup").await.json();
            (state["running"] == false).then_some(state)
        })
    };
    let missing = |state: &Value| state["failure"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(exchange(hub.at.http, "POST", "/api/v1/backup").await.status, 202);
    let state = ended().await;
    assert!(missing(&state).contains("mount its disk, or create the folder"), "{state}");
    let page = hub.get("/metrics").await;
    for line in ["meowlink_hub_backup_failed 1", "meowlink_hub_backup_only_on_data_disk 1"] {
        assert!(page.text().contains(line), "{line}");
    }
    assert!(!page.text().contains("meowlink_hub_backup_age_seconds"), "there is none yet");

    let config = hub.data_folder().join("hub.toml");
    ran(&format!(
        "{} backup {} --config {}  --data-dir {}",
        binaries().hub.display(),
        to.display(),
        config.display(),
        hub.data_folder().display()
    ));
    assert_eq!(exchange(hub.at.http, "POST", "/api/v1/backup").await.status, 202);
    let state = ended().await;
    assert!(state["failure"].is_null() && state["last"]["events"].as_u64() >= Some(2), "{state}");
    let made = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut made: Vec<String> = made.filter(|name| name.starts_with("0000")).collect();
    made.sort();
    assert!(made.len() == 2 && made[1].starts_with("000002-"), "{made:?}");
    assert!(to.join(&made[1]).join("config/hub.toml").is_file());
    let page = hub.get("/metrics").await;
    assert!(page.text().contains("meowlink_hub_backup_age_seconds") && page.text().contains("_backup_failed 0"));
}
