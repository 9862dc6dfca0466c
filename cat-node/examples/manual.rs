//! Writes the manual page of cat-node, and completions for bash, zsh and fish, into a folder: `manual DIR`.

use std::path::PathBuf;

use anyhow::Context;
use cat_node::cli::Cli;
use cat_node::config::NodeSettings;
use daemon::develop::Manual;

const MANUAL: Manual<'_> = Manual {
    environment: &[
        (
            "RUST_LOG",
            "What is logged: a level (error, warn, info, debug, trace), or levels by module: info,cat_node=debug.",
        ),
        (
            "NOTIFY_SOCKET, WATCHDOG_USEC",
            "Set by systemd: where the node reports that it is ready, and that it still records.",
        ),
    ],
    files: &[
        ("/etc/meowlink/cat-node.toml", "The config file of the service. It names every key with its default."),
        ("/var/lib/cat-node", "The state folder of the service, for a tape that continues on disk (spill_dir)."),
    ],
    see_also: &["hub(8)", "systemctl(1)", "journalctl(1)"],
};

fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("give the folder to write to")?);
    MANUAL.write::<Cli, NodeSettings>(&folder).with_context(|| folder.display().to_string())
}

#[cfg(test)]
mod tests {
    use daemon::config::{Key, keys};

    use super::*;

    #[test]
    fn page_has_every_command_flag_and_variable() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made");
        MANUAL.write::<Cli, NodeSettings>(&folder).unwrap();
        let page = std::fs::read_to_string(folder.join("cat-node.8")).unwrap();
        // A dash is written \\- there.
        let page = page.replace("\\-", "-");
        for said in [".TH cat-node 8", "cat-node record", "cat-node config show", "--seconds", ".SH FILES", "RUST_LOG"]
        {
            assert!(page.contains(said), "{said}: {page}");
        }
        for key in keys::<NodeSettings>() {
            assert!(page.contains(&Key::variable::<NodeSettings>(&key)), "{page}");
            // Other users of the machine see command lines, so a secret has no flag.
            if key.path == ["pairing_secret"] {
                continue;
            }
            let flag = if key.path == ["wav_once"] { "once".into() } else { key.dotted().replace('_', "-") };
            assert!(page.contains(&format!("\\fB--{flag}\\fR")), "{flag}: {page}");
        }
        for shell in ["cat-node.bash", "_cat-node", "cat-node.fish"] {
            let completions = std::fs::read_to_string(folder.join(shell)).unwrap();
            assert!(completions.contains("tape-bytes") && completions.contains("schema"), "{shell}");
        }
    }
}
