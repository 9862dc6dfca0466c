//! `hub backup` and `hub restore`.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use daemon::config::ConfigError;
use daemon::shutdown::CancellationToken;
use daemon::terminal::failed;
use hub_gateway::tls::{AUTHORITY_FILE, FOLDER};
use hub_store::backup::{
    BackedUp, BackupError, ConfigFile, RestoreFrom, Restored, Source, back_up_to_folder, back_up_to_tar,
    back_up_to_writer, remember, restore,
};

use crate::cli::{BackupArgs, RestoreArgs};

mod config_copy;

pub use config_copy::config_copies;

/// Stands for standard input and standard output.
const PIPE: &str = "-";

/// Lost clips that a message names.
const MOST_NAMED: usize = 5;

/// Why `hub backup` or `hub restore` failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error("standard output is a terminal; redirect it to a file or a pipe")]
    Terminal,
}

/// Runs `hub backup`. The result is printed on standard error, because standard output may be the backup.
pub fn back_up(args: &BackupArgs) -> ExitCode {
    ended(try_back_up(args).map(|made| words_of_backup(&made)))
}

/// Runs `hub restore`, and prints what came back.
pub fn bring_back(args: &RestoreArgs) -> ExitCode {
    ended(try_restore(args).map(|restored| words_of_restore(&restored)))
}

fn ended(result: Result<String, Failure>) -> ExitCode {
    // A closed standard error is no reason to fail.
    match result {
        Ok(words) => {
            let _ = write!(io::stderr(), "{words}");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error, matches!(error, Failure::Config(_) | Failure::Terminal)),
    }
}

fn try_back_up(args: &BackupArgs) -> Result<BackedUp, Failure> {
    let config = args.settings.load()?.settings;
    let mut files = config_copies(args.settings.config_file().as_deref(), args.with_secrets)?;
    let data_dir = config.data_dir()?;
    if args.with_secrets {
        files.extend(authority_copy(&data_dir));
    }
    let source = Source { data_dir, config: files, with_secrets: args.with_secrets };
    let stop = CancellationToken::new();
    if args.to.as_os_str() == PIPE {
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            return Err(Failure::Terminal);
        }
        return Ok(back_up_to_writer(&source, &mut out, &stop)?);
    }
    let made = if is_archive(&args.to) {
        back_up_to_tar(&source, &args.to, &stop)?
    } else {
        back_up_to_folder(&source, &args.to, args.keep.unwrap_or(config.backup.keep), &stop)?
    };
    if let Err(error) = remember(&source.data_dir, &args.to, &made) {
        let _ = writeln!(io::stderr(), "the page will not show this backup: {}: {error}", source.data_dir.display());
    }
    Ok(made)
}

/// The CA of the gateway with its private key. `None`: there is none.
fn authority_copy(data_dir: &Path) -> Option<ConfigFile> {
    let content = std::fs::read(data_dir.join(FOLDER).join(AUTHORITY_FILE)).ok()?;
    Some(ConfigFile { name: AUTHORITY_FILE.into(), content })
}

fn try_restore(args: &RestoreArgs) -> Result<Restored, Failure> {
    let data_dir = args.settings.load()?.settings.data_dir()?;
    Ok(if args.from.as_os_str() == PIPE {
        restore(RestoreFrom::Archive(&mut io::stdin().lock()), &data_dir)?
    } else {
        restore(RestoreFrom::Path(&args.from), &data_dir)?
    })
}

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "tar")
}

fn words_of_backup(made: &BackedUp) -> String {
    let (manifest, counts) = (&made.manifest, &made.manifest.counts);
    let mut words = format!(
        "Backed up to {}: {} events ({} labelled), {} clips ({} new), {:.1} MB.\n",
        made.path.display(),
        counts.events,
        counts.labelled,
        made.copied + made.known,
        made.copied,
        manifest.bytes() as f64 / 1e6,
    );
    if manifest.missing_clips > 0 {
        words += &format!("Missing: the files of {} clips were not there.\n", manifest.missing_clips);
    }
    let has_config = manifest.files.iter().any(|file| file.path.starts_with("config/"));
    words += match (has_config, manifest.with_secrets) {
        (false, _) => "Without settings: no config file was named (--config).\n",
        (true, true) => "With the settings and their secrets.\n",
        (true, false) => "With the settings, without their secrets (--with-secrets takes them along).\n",
    };
    words
}

fn words_of_restore(restored: &Restored) -> String {
    let counts = &restored.counts;
    let made = match &restored.manifest {
        Some(manifest) => format!(", made {} by hub {}", manifest.made_at, manifest.program),
        None => ", the database alone".to_owned(),
    };
    let mut words = format!("Restored from {}{made}.\n", restored.from.display());
    words += &format!(
        "Back: {} events ({} labelled), {} clips, {} notifications, {} analyses.\n",
        counts.events, counts.labelled, restored.clips, counts.notifications, counts.analyses
    );
    if restored.lost_clips.is_empty() {
        words += "Missing: nothing.\n";
    } else {
        let named = restored.lost_clips.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if restored.lost_clips.len() > MOST_NAMED { ", …" } else { "" };
        words += &format!(
            "Missing: {} clips are not in the backup or damaged; their events are back ({named}{more}).\n",
            restored.lost_clips.len()
        );
    }
    if restored.later_clips > 0 {
        words += &format!(
            "Later: {} clips belong to no event of this database; the hub recovers their events after its next start.\n",
            restored.later_clips
        );
    }
    if let Some(config) = &restored.config {
        words += &format!(
            "The settings of the backup are in {}; the hub does not read them there. Copy what you need to your config \
             file.\n",
            config.display()
        );
    }
    if let Some(aside) = &restored.aside {
        words += &format!("What was there before is in {}. Delete it when all is well.\n", aside.display());
    }
    words
}
