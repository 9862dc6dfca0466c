//! Writes the manual page of hub, and completions for bash, zsh and fish, into a folder: `manual DIR`.

use std::path::PathBuf;

use anyhow::Context;
use daemon::develop::Manual;
use hub::cli::Cli;
use hub::config::HubSettings;

const MANUAL: Manual<'_> = Manual {
    environment: &[
        (
            "RUST_LOG",
            "What is logged: a level (error, warn, info, debug, trace), or levels by module: info,hub_listen=debug.",
        ),
        (
            "STATE_DIRECTORY",
            "Set by systemd: the folder of the database and the clips, unless data_dir names another one.",
        ),
        ("RUNTIME_DIRECTORY", "Set by systemd: the folder of the socket for commands such as hub nodes."),
        ("CREDENTIALS_DIRECTORY", "Set by systemd: where secret files without a folder are looked for."),
        (
            "NOTIFY_SOCKET, WATCHDOG_USEC",
            "Set by systemd: where the hub reports that it is ready, and that it can store.",
        ),
    ],
    files: &[
        ("/etc/meowlink/hub.toml", "The config file of the service. It names every key with its default."),
        ("/run/meowlink-hub/control.sock", "The socket of the service for commands such as hub nodes."),
        ("/var/lib/meowlink-hub", "The state folder of the service: the database hub.sqlite, and the clips."),
    ],
    see_also: &["cat-node(8)", "systemctl(1)", "journalctl(1)"],
};

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("give the folder to write to")?);
    MANUAL.write::<Cli, HubSettings>(&folder).with_context(|| folder.display().to_string())
}

#[cfg(test)]
mod tests {
    use daemon::config::{Key, keys};

    use super::*;

    #[test]
    fn page_has_every_command_and_variable() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        MANUAL.write::<Cli, HubSettings>(&folder).unwrap();
        // A dash is written \- there.
        let page = std::fs::read_to_string(folder.join("hub.8")).unwrap().replace("\\-", "-");
        for text in [".TH hub 8", "hub analyze", "hub config show", "--min-score", ".SH FILES", "RUST_LOG"] {
            assert!(page.contains(text), "{text}: {page}");
        }
        for key in keys::<HubSettings>().iter().filter(|key| key.is_scalar()) {
            assert!(page.contains(&Key::variable::<HubSettings>(key)), "{key:?}: {page}");
        }
        for shell in ["hub.bash", "_hub", "hub.fish"] {
            let completions = std::fs::read_to_string(folder.join(shell)).unwrap();
            assert!(completions.contains("data-dir") && completions.contains("schema"), "{shell}");
        }
    }
}
