//! `hub nodes`: commands to the running hub about its nodes.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use daemon::config::ConfigError;
use daemon::terminal::failed;
use hub_control::client::{ControlError, ask};
use hub_control::place;
use hub_control::protocol::{Answer, Command, NodeList};

use crate::cli::{NodesCommand, PairArgs, SocketArgs};

/// The word for all nodes that wait.
const ALL: &str = "all";

/// Answers in a row without progress after which `hub nodes replace` stops waiting: the hub answers every five seconds.
/// Gaps and deleted events move without being counted, 100,000 of them in under two minutes.
const MAX_SILENT_ANSWERS: u32 = 60;

/// Digits of an id or of a key's fingerprint that people see. Commands accept these digits instead of the whole.
const SHORT_ID: usize = 16;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("`all` works with `hub nodes admit` only; {0} one node at a time, by its name in `hub nodes list`")]
    OneByOne(&'static str),
    #[error("the hub makes no progress: {0} events are still to move; it continues, and its log says why it waits")]
    Stuck(u64),
    #[error("the answer cannot be printed: {0}")]
    Print(#[from] io::Error),
}

/// Runs `hub nodes`.
pub fn run(command: &NodesCommand) -> ExitCode {
    exit_code(try_run(command))
}

/// Runs `hub pair`.
pub fn pair(args: &PairArgs) -> ExitCode {
    exit_code(try_pair(args))
}

/// Runs `hub rotate-key`.
pub fn rotate_key(at: &SocketArgs) -> ExitCode {
    exit_code(try_rotate_key(at))
}

fn try_rotate_key(at: &SocketArgs) -> Result<(), Failure> {
    if let Answer::KeyChanged(key) = ask(&socket(at)?, Command::RotateKey)? {
        io::stdout().lock().write_all(format!("the hub has a new key: {key}\n").as_bytes())?;
    }
    Ok(())
}

fn try_pair(args: &PairArgs) -> Result<(), Failure> {
    let request = Command::PairNode { code: args.code.clone(), host: args.host.clone() };
    if let Answer::Done(urls) = ask(&socket(&args.at)?, request)? {
        let lines = urls.iter().fold(String::new(), |text, url| text + &format!("paired: {url}\n"));
        io::stdout().lock().write_all(lines.as_bytes())?;
    }
    Ok(())
}

fn exit_code(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, matches!(error, Failure::Config(_) | Failure::OneByOne(_))),
    }
}

fn try_run(command: &NodesCommand) -> Result<(), Failure> {
    let (at, request, verb) = match command {
        NodesCommand::List { at, .. } => (at, Command::ListNodes, ""),
        NodesCommand::Admit { at, name } if name == ALL => (at, Command::AdmitAllNodes, "admitted"),
        NodesCommand::Admit { at, name } => (at, Command::AdmitNode { name: name.clone() }, "admitted"),
        NodesCommand::Refuse { name, .. } if name == ALL => return Err(Failure::OneByOne("refuse")),
        NodesCommand::Forget { name, .. } if name == ALL => return Err(Failure::OneByOne("forget")),
        NodesCommand::Refuse { at, name } => (at, Command::RefuseNode { name: name.clone() }, "refused"),
        NodesCommand::Forget { at, name } => (at, Command::ForgetNode { name: name.clone() }, ""),
        NodesCommand::Replace { at, old, new, force } => {
            (at, Command::ReplaceNode { old: old.clone(), new: new.clone(), force: *force }, "")
        }
    };
    let as_json = matches!(command, NodesCommand::List { json: true, .. });
    let socket = socket(at)?;
    let text = match wait_for_history(ask(&socket, request)?, |old| {
        Ok(ask(&socket, Command::ReplacementProgress { old })?)
    })? {
        Answer::Nodes(list) if as_json => serde_json::to_string(&list).map_err(io::Error::other)? + "\n",
        Answer::Nodes(list) => table(&list),
        Answer::Done(urls) if urls.is_empty() => "no node waits to be admitted\n".to_owned(),
        Answer::Done(urls) => urls.iter().fold(String::new(), |text, url| text + &format!("{verb}: {url}\n")),
        Answer::Forgotten { url, until_restart } => forgotten(&url, until_restart),
        Answer::Replaced { url, events, clips, labels } => {
            format!("replaced: {url} has the history now: {events} events, {clips} clips, {labels} labels\n")
        }
        Answer::Error(failure) => return Err(ControlError::Refused(failure).into()),
        _ => return Err(io::Error::other("the hub answered something else").into()),
    };
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// As long as a history moves, asks again how far it is, and shows that on standard error.
fn wait_for_history(
    first: Answer,
    mut ask_again: impl FnMut(String) -> Result<Answer, Failure>,
) -> Result<Answer, Failure> {
    let (mut answer, mut moved, mut silent) = (first, None, 0);
    while let Answer::Replacing { old, events, events_left } = answer {
        silent = if moved == Some(events) { silent + 1 } else { 0 };
        if silent >= MAX_SILENT_ANSWERS {
            return Err(Failure::Stuck(events_left));
        }
        moved = Some(events);
        // A closed standard error is no reason to stop waiting.
        let _ = writeln!(io::stderr(), "{events} events have moved, {events_left} are left");
        answer = ask_again(old)?;
    }
    Ok(answer)
}

/// The socket of the running hub.
pub(crate) fn socket(at: &SocketArgs) -> Result<PathBuf, ConfigError> {
    if let Some(socket) = &at.socket {
        return Ok(socket.clone());
    }
    let settings = at.settings.load()?.settings;
    Ok(place::of_client(settings.data_dir.as_deref(), settings.data_dir().ok().as_deref()))
}

fn forgotten(url: &str, until_restart: bool) -> String {
    let again = if until_restart {
        "discover = \"admit-all\" admits every node, so the hub listens to this one again after its next start\n"
    } else {
        ""
    };
    format!("forgotten: {url}\n{again}")
}

/// The nodes as a table for people.
fn table(list: &NodeList) -> String {
    let header = ["STATE", "NODE", "CAT", "ID", "KEY", "ADDRESS"].map(str::to_owned);
    let short = |id: &Option<String>| id.as_deref().map_or("-", |id| id.get(..SHORT_ID).unwrap_or(id)).to_owned();
    let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let known = list.nodes.iter().map(|node| {
        let state = if node.reachable { "up" } else { "away" };
        let address = node.addresses.first().cloned();
        let (id, key) = (short(&node.node_id), short(&node.key_fingerprint));
        [state.to_owned(), node.url.clone(), word(&node.cat), id, key, word(&address)]
    });
    let waiting = list.waiting.iter().map(|node| {
        let address = node.addresses.first().cloned();
        let state = if node.needs_code { "code" } else { "waiting" };
        [state.to_owned(), node.url.clone(), word(&node.cat), short(&node.node_id), word(&None), word(&address)]
    });
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(known).chain(waiting).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let line = row.iter().zip(widths).fold(String::new(), |line, (cell, width)| line + &format!("{cell:width$}  "));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if list.waiting.is_empty() && list.nodes.iter().all(|node| !node.reachable) {
        text += "\nNo node answers, and none waits to be admitted.\n";
    }
    if let Some(first) = list.waiting.iter().find(|node| !node.needs_code) {
        let _ = writeln!(text, "\nTo listen to a node that waits: hub nodes admit {}", first.url);
    }
    if list.waiting.iter().any(|node| node.needs_code) {
        text += "\nTo pair with a node that waits for its code: run cat-node pair on it, then hub pair CODE\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use daemon::config::Flags;
    use hub_control::protocol::{KnownNode, NewNode};

    use super::*;

    #[test]
    fn table_shows_the_nodes_and_what_to_do() {
        let id = Some("0123456789abcdef".repeat(4));
        let known = KnownNode {
            url: "http://kitchen:1".into(),
            node_id: None,
            key_fingerprint: None,
            cat: Some("Tom".into()),
            discovered: false,
            reachable: true,
            condition: "ok".into(),
            addresses: vec!["192.168.1.5:1".into()],
        };
        // It has changed its key.
        let paired = KnownNode {
            url: "http://den:1".into(),
            node_id: id.clone(),
            key_fingerprint: Some("fedcba9876543210".repeat(4)),
            ..known.clone()
        };
        let new = NewNode {
            key: "k".into(),
            url: "http://attic.local:50056".into(),
            node_id: id,
            cat: None,
            version: String::new(),
            addresses: vec!["192.168.1.7:50056".into()],
            since: String::new(),
            needs_code: false,
        };
        let closed = NewNode { url: "http://shed.local:50056".into(), needs_code: true, ..new.clone() };
        let text = table(&NodeList { nodes: vec![known, paired], waiting: vec![new, closed] });
        assert_eq!(
            text,
            "STATE    NODE                      CAT  ID                KEY               ADDRESS\n\
             up       http://kitchen:1          Tom  -                 -                 192.168.1.5:1\n\
             up       http://den:1              Tom  0123456789abcdef  fedcba9876543210  192.168.1.5:1\n\
             waiting  http://attic.local:50056  -    0123456789abcdef  -                 192.168.1.7:50056\n\
             code     http://shed.local:50056   -    0123456789abcdef  -                 192.168.1.7:50056\n\n\
             To listen to a node that waits: hub nodes admit http://attic.local:50056\n\n\
             To pair with a node that waits for its code: run cat-node pair on it, then hub pair CODE\n"
        );
    }
    #[test]
    fn list_without_a_node_that_answers_says_so() {
        let away = KnownNode {
            url: "http://localhost:50056".into(),
            node_id: None,
            key_fingerprint: None,
            cat: None,
            discovered: false,
            reachable: false,
            condition: "away".into(),
            addresses: vec![],
        };
        let text = table(&NodeList { nodes: vec![away], waiting: vec![] });
        assert!(text.contains("away   http://localhost:50056"), "{text}");
        assert!(text.ends_with("\n\nNo node answers, and none waits to be admitted.\n"), "{text}");
    }

    #[test]
    fn command_waits_as_long_as_a_history_moves() {
        let replacing = |events| Answer::Replacing { old: "a".into(), events, events_left: 1_000 - events };
        let done = || Answer::Replaced { url: "http://b:1".into(), events: 1_000, clips: 0, labels: 0 };
        let mut answers = (1..100).map(|step| replacing(step * 10)).chain([done()]);
        let waited = wait_for_history(replacing(0), |old| {
            assert_eq!(old, "a");
            Ok(answers.next().unwrap())
        });
        assert_eq!(waited.unwrap(), done());
        let stuck = wait_for_history(replacing(7), |_| Ok(replacing(7))).unwrap_err().to_string();
        assert!(stuck.contains("no progress: 993 events"), "{stuck}");
        assert_eq!(wait_for_history(done(), |_| panic!("asked again")).unwrap(), done());
    }

    #[test]
    fn all_nodes_are_admitted_at_once_and_not_refused_or_forgotten() {
        let settings = SocketArgs { socket: Some("/nowhere".into()), settings: Flags::default() };
        let (name, at) = (ALL.to_owned(), settings);
        for command in [
            NodesCommand::Refuse { name: name.clone(), at: at.clone() },
            NodesCommand::Forget { name: name.clone(), at: at.clone() },
        ] {
            let error = try_run(&command).unwrap_err().to_string();
            assert!(error.contains("one node at a time"), "{error}");
        }
        assert!(matches!(try_run(&NodesCommand::Admit { name, at }), Err(Failure::Control(_))));
    }

    #[test]
    fn person_hears_that_a_node_is_forgotten_until_the_next_start_only() {
        assert_eq!(forgotten("http://a.local:1", false), "forgotten: http://a.local:1\n");
        assert!(forgotten("http://a.local:1", true).ends_with("again after its next start\n"));
    }
}
