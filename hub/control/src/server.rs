//! The hub's end of the socket.

use std::sync::Arc;
use std::time::Duration;

use daemon::control::Socket;
use daemon::shutdown::CancellationToken;
use hub_base::error::{Code, Error};
use hub_base::time::rfc3339;
use hub_nodes::{Node, Nodes, WaitingNode};
use hub_people::People;
use hub_store::deletions::DeletionScope;
use hub_store::{Moved, Store};
use hub_watch::admission::{Admission, By, Forgotten};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::warn;

use crate::protocol::{Answer, Command, Failure, KnownNode, NewNode, NodeList, Request, VERSION};

/// Commands that run at a time. Those whose client gave up are among them.
const MAX_RUNNING: u32 = 16;

/// How long a hub that stops waits for commands that run. It waits for all of its parts for a second longer.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// Tells the condition of a node, as in `/readyz`.
pub type ConditionOf = Arc<dyn Fn(&Node) -> &'static str + Send + Sync>;

/// What the commands are about.
#[derive(Clone)]
pub struct Running {
    /// The nodes of the hub.
    pub nodes: Nodes,
    /// Which discovered nodes are admitted.
    pub admission: Admission,
    /// Users and tokens.
    pub people: People,
    /// The database.
    pub store: Store,
    /// Tells the condition of a node.
    pub condition: ConditionOf,
}

/// Answers commands on a socket until `stop`. Then it waits a little for those that run.
pub async fn serve(socket: Socket, running: Running, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_RUNNING as usize));
    let all = Arc::clone(&places);
    let answer = move |line: String| {
        let (running, places) = (running.clone(), Arc::clone(&places));
        async move { answer(&line, &running, &places).await }
    };
    socket.serve(answer, stop).await;
    if timeout(STOP_DEADLINE, all.acquire_many(MAX_RUNNING)).await.is_err() {
        warn!("the hub stops before all of its commands have ended");
    }
}

async fn answer(line: &str, running: &Running, places: &Arc<Semaphore>) -> Vec<u8> {
    let answer = match serde_json::from_str::<Request>(line) {
        Ok(Request { version: VERSION, command }) => match Arc::clone(places).try_acquire_owned() {
            Ok(place) => run_to_its_end(command, running, place).await,
            Err(_) => Err(Error::new(Code::Conflict, "too many commands are still running; try again later")),
        },
        Ok(Request { version, .. }) => {
            Err(Error::new(Code::BadRequest, format!("this hub knows version {VERSION} of commands, not {version}")))
        }
        Err(_) => Err(Error::new(Code::BadRequest, "this hub does not know the command; are both of one version?")),
    };
    let answer = answer
        .unwrap_or_else(|Error { code, message }| Answer::Error(Failure { code: code.as_str().to_owned(), message }));
    serde_json::to_vec(&answer).unwrap_or_default()
}

/// Runs a command to its end, even if the client gives up meanwhile: what was done is noted in the audit log.
async fn run_to_its_end(command: Command, running: &Running, place: OwnedSemaphorePermit) -> Result<Answer, Error> {
    let running = running.clone();
    let work = tokio::spawn(async move {
        let _place = place;
        run(command, &running).await
    });
    let crashed = |error: tokio::task::JoinError| {
        Err(Error::new(Code::Internal, format!("the command was not finished: {error}")))
    };
    work.await.unwrap_or_else(crashed)
}

async fn run(command: Command, running: &Running) -> Result<Answer, Error> {
    let Running { nodes, admission, people, store, condition } = running;
    let done = |url: String| Answer::Done(vec![url]);
    Ok(match command {
        Command::ListNodes => Answer::Nodes(list(nodes, condition)),
        Command::AdmitNode { name } => {
            done(noted("admit_node", admission.admit(&name, By::Command).await?.url, people).await)
        }
        Command::AdmitAllNodes => {
            let mut admitted = Vec::new();
            for node in nodes.waiting().into_iter().filter(|node| !node.needs_code) {
                match admission.admit(&node.key, By::Command).await {
                    Ok(node) => admitted.push(noted("admit_node", node.url, people).await),
                    // It was withdrawn meanwhile, or cannot be admitted: the others can.
                    Err(error) => warn!(node = node.url, %error, "a waiting node was not admitted"),
                }
            }
            Answer::Done(admitted)
        }
        Command::RefuseNode { name } => done(noted("refuse_node", admission.refuse(&name).await?.url, people).await),
        Command::PairNode { code, host } => {
            done(noted("pair_node", admission.pair(&code, host.as_deref()).await?, people).await)
        }
        Command::ForgetNode { name } => {
            let Forgotten { url, until_restart } = admission.forget(&name).await?;
            let url = noted("remove_node", url, people).await;
            Answer::Forgotten { url, until_restart }
        }
        Command::ReplaceNode { old, new, force } => {
            let done = admission.replace(&old, &new, force).await?;
            people.record(crate::people::WHO, None, "replace_node", &format!("{} by {}", done.old, done.new)).await;
            match done.moved {
                Some(Moved { events, clips, labels, .. }) => Answer::Replaced { url: done.url, events, clips, labels },
                None => crate::replacement::progress(done.old, store).await?,
            }
        }
        Command::RotateKey => {
            let key = admission.change_own_key().await?.to_string();
            people.record(crate::people::WHO, None, "rotate_key", &key).await;
            Answer::KeyChanged(key)
        }
        Command::ReplacementProgress { old } => crate::replacement::progress(old, store).await?,
        Command::People(command) => crate::people::run(command, people).await?,
        Command::Delete { cat, before, dry_run } => {
            let scope = DeletionScope::asked(cat, before)?;
            Answer::Deletion(crate::deletion::run(scope, dry_run, store, people).await?)
        }
    })
}

/// Notes in the audit log what a command did to the node with this URL, and returns the URL.
async fn noted(action: &str, url: String, people: &People) -> String {
    people.record(crate::people::WHO, None, action, &url).await;
    url
}

fn list(nodes: &Nodes, condition: &ConditionOf) -> NodeList {
    let known = nodes.iter().chain(nodes.expected()).map(|node| KnownNode {
        url: node.url().to_owned(),
        node_id: node.id().map(|id| id.to_string()),
        key_fingerprint: node.pinned_key().map(|key| key.to_string()),
        cat: node.cat(),
        discovered: node.is_discovered(),
        reachable: node.recent_description().is_some(),
        condition: condition(&node).to_owned(),
        addresses: node.addresses().iter().map(ToString::to_string).collect(),
    });
    let waiting = nodes.waiting().into_iter().map(|node| {
        let WaitingNode { key, url, node_id, cat, version, addresses, since_ns, needs_code } = node;
        let addresses = addresses.iter().map(ToString::to_string).collect();
        NewNode { key, url, node_id, cat, version, addresses, since: rfc3339(since_ns), needs_code }
    });
    NodeList { nodes: known.collect(), waiting: waiting.collect() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
    use std::path::Path;

    use daemon::identity::Key;
    use hub_nodes::testing::{FakeNode, announce};
    use hub_store::{Access, SeenNode};

    use super::*;
    use crate::client::{self, ControlError};
    use crate::protocol::PeopleCommand;

    /// A hub for which three nodes wait.
    async fn running(dir: &Path) -> Running {
        let nodes = Nodes::new(&["http://127.0.0.1:9".parse().unwrap()]).unwrap();
        let store = Store::open(dir, Access::Keeper).unwrap();
        let people = People::new(store.clone());
        let admission = Admission::open(nodes.clone(), store.clone()).await.unwrap();
        let address = FakeNode::with(vec![]).serve().await;
        for host in ["attic", "cellar", "shed"] {
            announce(&nodes, &format!("http://{host}.local:50056"), address).await;
        }
        Running { nodes, admission, people, store, condition: Arc::new(|_: &Node| "ok") }
    }

    async fn serving(path: &Path, dir: &Path) -> CancellationToken {
        let stop = CancellationToken::new();
        tokio::spawn(serve(Socket::bind(path).unwrap(), running(dir).await, stop.clone()));
        stop
    }

    async fn ask(path: &Path, command: Command) -> Result<Answer, ControlError> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || client::ask(&path, command)).await.unwrap()
    }

    fn name(name: &str) -> String {
        name.to_owned()
    }

    #[tokio::test]
    async fn commands_admit_refuse_and_forget_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        // Left behind by a hub that was killed.
        drop(StdListener::bind(&path).unwrap());
        let _stop = serving(&path, dir.path()).await;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);

        let Answer::Nodes(list) = ask(&path, Command::ListNodes).await.unwrap() else { panic!("no list") };
        assert_eq!((list.nodes.len(), list.waiting.len()), (1, 3));
        assert_eq!((list.nodes[0].url.as_str(), list.nodes[0].discovered), ("http://127.0.0.1:9", false));
        assert_eq!(list.waiting[0].cat.as_deref(), Some("Tom"));

        let several = ask(&path, Command::AdmitNode { name: name("Tom") }).await.unwrap_err().to_string();
        assert!(several.contains("several nodes") && several.contains("http://cellar.local:50056"), "{several}");
        let done = |url: &str| Answer::Done(vec![url.to_owned()]);
        let refused = ask(&path, Command::RefuseNode { name: name("cellar.local") }).await.unwrap();
        assert_eq!(refused, done("http://cellar.local:50056"));
        let admitted = ask(&path, Command::AdmitNode { name: name("attic") }).await.unwrap();
        assert_eq!(admitted, done("http://attic.local:50056"));
        assert_eq!(ask(&path, Command::AdmitAllNodes).await.unwrap(), done("http://shed.local:50056"));
        let forgotten = ask(&path, Command::ForgetNode { name: name("attic") }).await.unwrap();
        assert_eq!(forgotten, Answer::Forgotten { url: name("http://attic.local:50056"), until_restart: false });
        let Answer::Nodes(list) = ask(&path, Command::ListNodes).await.unwrap() else { panic!("no list") };
        assert_eq!((list.nodes.len(), list.waiting.len()), (2, 0));
        assert_eq!((list.nodes[1].condition.as_str(), list.nodes[1].addresses.len()), ("ok", 1));

        let noted = Store::open(dir.path(), Access::Guest).unwrap().audit(None, 9).await.unwrap();
        let noted: Vec<_> =
            noted.iter().rev().map(|entry| [&*entry.who, &*entry.action, &*entry.subject].map(str::to_owned)).collect();
        let entry = |action: &str, host: &str| {
            ["command".to_owned(), format!("{action}_node"), format!("http://{host}.local:50056")]
        };
        let wanted =
            [entry("refuse", "cellar"), entry("admit", "attic"), entry("admit", "shed"), entry("remove", "attic")];
        assert_eq!(noted, wanted);
    }

    #[tokio::test]
    async fn command_ends_and_is_noted_when_its_client_gives_up() {
        let dir = tempfile::tempdir().unwrap();
        let running = running(dir.path()).await;
        let command = Command::AdmitNode { name: name("attic") };
        let line = serde_json::to_string(&Request { version: VERSION, command }).unwrap();
        let places = Arc::new(Semaphore::new(1));
        let given_up = timeout(Duration::ZERO, answer(&line, &running, &places)).await;
        assert!(given_up.is_err(), "the control: the answer was there at once");
        let refused = answer(&line, &running, &places).await;
        let refused = String::from_utf8(refused).unwrap();
        assert!(refused.contains("too many commands are still running"), "{refused}");
        let noted = async {
            loop {
                let entries = running.people.audit(None, 9).await.unwrap();
                if let [entry] = &entries[..] {
                    return [entry.action.clone(), entry.subject.clone()];
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let noted = timeout(Duration::from_secs(30), noted).await.unwrap();
        assert_eq!(noted, ["admit_node", "http://attic.local:50056"]);
    }

    #[tokio::test]
    async fn replacement_of_a_node_is_noted_in_the_audit_log() {
        let dir = tempfile::tempdir().unwrap();
        let nodes = Nodes::new(&["http://127.0.0.1:9".parse().unwrap()]).unwrap();
        let store = Store::open(dir.path(), Access::Keeper).unwrap();
        let old = "a".repeat(64);
        let seen = SeenNode {
            url: name("http://attic.local:50056"),
            node_id: Some(old.clone()),
            claimed_id: None,
            boot_id: 1,
            captured_samples: 0,
        };
        store.see_node(seen).await.unwrap();
        let people = People::new(store.clone());
        let admission = Admission::open(nodes.clone(), store.clone()).await.unwrap();
        let (fake, key) = (FakeNode::with(vec![]), Arc::new(Key::generate().unwrap().0));
        fake.change(|tape| tape.key = Some(Arc::clone(&key)));
        announce(&nodes, "http://shed.local:50056", fake.serve().await).await;
        let condition: ConditionOf = Arc::new(|_: &Node| "ok");
        let running = Running { nodes, admission, people, store, condition };
        let replace = || Command::ReplaceNode { old: name("attic"), new: name("shed"), force: false };
        let refused = run(replace(), &running).await.unwrap_err();
        assert!(refused.message.contains("hub nodes admit http://shed.local:50056"), "{refused:?}");
        run(Command::AdmitNode { name: name("shed") }, &running).await.unwrap();
        let done = run(replace(), &running).await.unwrap();
        let url = name("http://shed.local:50056");
        assert_eq!(done, Answer::Replaced { url, events: 0, clips: 0, labels: 0 });
        let entries = running.people.audit(None, 9).await.unwrap();
        let noted: Vec<_> = entries.iter().map(|entry| (entry.who.as_str(), entry.action.as_str())).collect();
        assert_eq!(noted, [("command", "replace_node"), ("command", "admit_node")]);
        assert_eq!(entries[0].subject, format!("{old} by {}", key.id()));
    }

    #[tokio::test]
    async fn commands_add_and_remove_users_and_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let _stop = serving(&path, dir.path()).await;
        let people = |command| ask(&path, Command::People(command));
        for (user, added) in [("anna", "anna (admin)"), ("ben", "ben (viewer)")] {
            let add = PeopleCommand::AddUser { name: name(user), role: None, password: name("correct horse") };
            assert_eq!(people(add).await.unwrap(), Answer::Done(vec![name(added)]));
        }
        let role = PeopleCommand::SetRole { name: name("ben"), role: name("king") };
        assert!(people(role).await.unwrap_err().to_string().contains("unknown role \"king\""));
        let Answer::Users(users) = people(PeopleCommand::ListUsers).await.unwrap() else { panic!("no users") };
        assert_eq!(users.iter().map(|user| user.role.as_str()).collect::<Vec<_>>(), ["admin", "viewer"]);
        for user in ["ben", "anna"] {
            people(PeopleCommand::RemoveUser { name: name(user) }).await.unwrap();
        }
        // The mark of users that were lost with the database: the next one is the first again.
        std::fs::write(dir.path().join("users-exist"), "").unwrap();
        let add = PeopleCommand::AddUser { name: name("carla"), role: None, password: name("correct horse") };
        assert_eq!(people(add).await.unwrap(), Answer::Done(vec![name("carla (admin)")]));
        people(PeopleCommand::RemoveUser { name: name("carla") }).await.unwrap();
        let add = PeopleCommand::AddToken { name: name("grafana"), role: name("viewer"), days: Some(90) };
        let Answer::Token(token) = people(add).await.unwrap() else { panic!("no token") };
        assert!(token.starts_with("meowlink_"));
        let Answer::Tokens(tokens) = people(PeopleCommand::ListTokens).await.unwrap() else { panic!("no tokens") };
        assert!(tokens.len() == 1 && tokens[0].expires_at.is_some());
        let remove = || PeopleCommand::RemoveToken { name: name("grafana") };
        people(remove()).await.unwrap();
        assert!(people(remove()).await.unwrap_err().to_string().contains("there is no token"));
    }

    #[tokio::test]
    async fn other_lines_are_refused_and_the_socket_goes_with_the_hub() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let stop = serving(&path, dir.path()).await;
        for line in ["{}\n".to_owned(), "{\"version\":9,\"command\":\"list_nodes\"}\n".into(), "x".repeat(9_000)] {
            let path = path.clone();
            let answer = tokio::task::spawn_blocking(move || {
                let mut stream = StdStream::connect(path).unwrap();
                // The hub may close before it has read all of a line that is too long.
                let _ = stream.write_all(line.as_bytes());
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer);
                String::from_utf8(answer).unwrap()
            });
            let answer = answer.await.unwrap();
            assert!(answer.is_empty() || answer.contains("bad_request"), "{answer}");
        }
        assert!(ask(&path, Command::ListNodes).await.is_ok(), "it goes on");
        stop.cancel();
        let gone = async {
            while path.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(60), gone).await.unwrap();
        let error = ask(&path, Command::ListNodes).await.unwrap_err().to_string();
        assert!(error.contains("no hub") && error.contains("control.sock"), "{error}");
    }
}
