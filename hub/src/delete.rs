//! `hub delete`: deletes everything about a cat, or everything before a time, by the running hub.

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::process::ExitCode;

use daemon::config::ConfigError;
use daemon::terminal::failed;
use hub_control::client::{ControlError, ask};
use hub_control::protocol::{Answer, Command, DeletionLine};

use crate::cli::DeleteArgs;
use crate::nodes::socket;

/// Bytes of an answer on the terminal that are read at most.
const MAX_ANSWER_BYTES: u64 = 64;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("nothing was deleted; to delete without a question on the terminal: --yes")]
    NoTerminal,
    #[error("nothing was deleted")]
    Declined,
    #[error("{}", daemon::cause::cause(.0))]
    Io(#[from] io::Error),
}

/// Runs `hub delete`.
pub fn run(args: &DeleteArgs) -> ExitCode {
    match try_run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, matches!(error, Failure::Config(_) | Failure::NoTerminal)),
    }
}

fn try_run(args: &DeleteArgs) -> Result<(), Failure> {
    let socket = socket(&args.at)?;
    let command = |dry_run| {
        let command = Command::Delete { cat: args.cat.clone(), before: args.before.clone(), dry_run };
        match ask(&socket, command)? {
            Answer::Deletion(line) => Ok(line),
            _ => Err(Failure::Io(io::Error::other("the hub answered something else"))),
        }
    };
    let preview = command(true)?;
    io::stdout().lock().write_all(preview_words(&preview).as_bytes())?;
    let input = io::stdin();
    if !args.yes && !input.is_terminal() {
        return Err(Failure::NoTerminal);
    }
    if !args.yes && !agrees(&mut input.lock(), &mut io::stderr())? {
        return Err(Failure::Declined);
    }
    let begun = command(false)?;
    io::stdout().lock().write_all(begun_words(&begun).as_bytes())?;
    Ok(())
}

/// Asks. Only "y" and "yes" agree.
fn agrees(input: &mut impl BufRead, out: &mut impl Write) -> io::Result<bool> {
    write!(out, "Delete all this permanently? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    input.take(MAX_ANSWER_BYTES).read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn preview_words(preview: &DeletionLine) -> String {
    let DeletionLine { what, events, clips, labels, notifications, analyses, .. } = preview;
    let mut text = format!("Would be deleted: everything {}\n", about(what));
    for (number, one, several) in [
        (*events, "event", "events"),
        (*clips, "recording", "recordings"),
        (*labels, "label", "labels"),
        (*notifications, "notification", "notifications"),
        (*analyses, "analysis", "analyses"),
    ] {
        text += &format!("  {number} {}\n", if number == 1 { one } else { several });
    }
    text + "Their copies in the quarantine and in the snapshots go too. Backups stay: they are your own copies.\n"
}

fn begun_words(begun: &DeletionLine) -> String {
    let number = begun.id.map_or_else(String::new, |id| format!(" (deletion {id})"));
    format!(
        "The hub is deleting everything {}{number}. It continues in the background; “Privacy” on the page says how far \
         it is.\n",
        about(&begun.what)
    )
}

fn about(what: &str) -> String {
    if what.starts_with("before ") { what.to_owned() } else { format!("about {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(what: &str, id: Option<i64>) -> DeletionLine {
        DeletionLine { id, what: what.into(), events: 12, clips: 1, labels: 0, notifications: 3, analyses: 1 }
    }

    #[test]
    fn person_reads_what_goes_and_what_stays() {
        assert_eq!(
            preview_words(&line("Tom", None)),
            "Would be deleted: everything about Tom\n  12 events\n  1 recording\n  0 labels\n  3 notifications\n  \
             1 analysis\nTheir copies in the quarantine and in the snapshots go too. Backups stay: they are your own \
             copies.\n"
        );
        let begun = begun_words(&line("before 2026-01-31T00:00:00Z", Some(4)));
        assert!(
            begun.starts_with("The hub is deleting everything before 2026-01-31T00:00:00Z (deletion 4)."),
            "{begun}"
        );
    }

    #[test]
    fn only_yes_agrees() {
        let says = |text: &str| agrees(&mut text.as_bytes(), &mut Vec::new()).unwrap();
        assert!(says("y\n") && says("YES\r\n"));
        assert!(!says("") && !says("\n") && !says("no\n") && !says("yesterday\n"));
    }
}
