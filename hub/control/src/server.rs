//! The hub's end of the socket.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::quiet::Quiet;
use daemon::shutdown::CancellationToken;
use hub_base::error::{Code, Error};
use hub_base::time::rfc3339;
use hub_nodes::{Node, Nodes, WaitingNode};
use hub_watch::admission::{Admission, By, Forgotten};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tracing::warn;

use crate::protocol::{Answer, Command, Failure, KnownNode, MAX_REQUEST_BYTES, NewNode, NodeList, Request, VERSION};

/// Most connections at a time. Others wait in the queue of the system.
const MAX_CONNECTIONS: usize = 8;

/// Time for a whole exchange, from the connection to the last byte of the answer.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(15);

/// Wait after a connection could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);

/// How often the same failure is logged.
const LOG_PERIOD: Duration = Duration::from_secs(600);

/// Rights of the socket: its owner and the group of the service may give commands.
const MODE: u32 = 0o660;

/// Tells the condition of a node, as in `/readyz`.
pub type ConditionOf = Arc<dyn Fn(&Node) -> &'static str + Send + Sync>;

/// The socket of a hub. The file is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Makes the socket. One that an earlier hub left behind is replaced.
    ///
    /// # Errors
    /// If the path has another kind of file, or the folder cannot be written.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(file) if file.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers commands until `stop`.
    pub async fn serve(self, nodes: Nodes, admission: Admission, condition: ConditionOf, stop: CancellationToken) {
        let mut exchanges = JoinSet::new();
        let mut quiet = Quiet::new(LOG_PERIOD);
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if exchanges.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        let (nodes, admission, condition) = (nodes.clone(), admission.clone(), condition.clone());
                        exchanges.spawn(async move {
                            let done = exchange(stream, &nodes, &admission, &condition);
                            // A client that is too slow or gone gets no answer.
                            let _ = tokio::time::timeout(EXCHANGE_DEADLINE, done).await;
                        });
                    }
                    Err(error) => {
                        if let Some(suppressed_lines) = quiet.allow() {
                            warn!(%error, suppressed_lines, "cannot accept a command");
                        }
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
                Some(_) = exchanges.join_next() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A socket that stays is replaced at the next start.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn exchange(
    mut stream: UnixStream,
    nodes: &Nodes,
    admission: &Admission,
    condition: &ConditionOf,
) -> io::Result<()> {
    let mut line = String::new();
    let (read, mut write) = stream.split();
    BufReader::new(read.take(MAX_REQUEST_BYTES)).read_line(&mut line).await?;
    let answer = match serde_json::from_str::<Request>(&line) {
        Ok(Request { version: VERSION, command }) => run(command, nodes, admission, condition).await,
        Ok(Request { version, .. }) => {
            Err(Error::new(Code::BadRequest, format!("this hub knows version {VERSION} of commands, not {version}")))
        }
        Err(_) => Err(Error::new(Code::BadRequest, "this hub does not know the command; are both of one version?")),
    };
    let answer = answer
        .unwrap_or_else(|Error { code, message }| Answer::Error(Failure { code: code.as_str().to_owned(), message }));
    let mut bytes = serde_json::to_vec(&answer).map_err(io::Error::other)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await?;
    write.shutdown().await
}

async fn run(command: Command, nodes: &Nodes, admission: &Admission, condition: &ConditionOf) -> Result<Answer, Error> {
    let done = |url: String| Answer::Done(vec![url]);
    Ok(match command {
        Command::ListNodes => Answer::Nodes(list(nodes, condition)),
        Command::AdmitNode { name } => done(admission.admit(&name, By::Command).await?.url),
        Command::AdmitAllNodes => {
            let mut admitted = Vec::new();
            for node in nodes.waiting() {
                match admission.admit(&node.key, By::Command).await {
                    Ok(node) => admitted.push(node.url),
                    // It was withdrawn meanwhile, or cannot be admitted: the others can.
                    Err(error) => warn!(node = node.url, %error, "a waiting node was not admitted"),
                }
            }
            Answer::Done(admitted)
        }
        Command::RefuseNode { name } => done(admission.refuse(&name).await?.url),
        Command::ForgetNode { name } => {
            let Forgotten { url, until_restart } = admission.forget(&name).await?;
            Answer::Forgotten { url, until_restart }
        }
    })
}

fn list(nodes: &Nodes, condition: &ConditionOf) -> NodeList {
    let known = nodes.iter().chain(nodes.expected()).map(|node| KnownNode {
        url: node.url().to_owned(),
        node_id: node.id().map(|id| id.to_string()),
        cat: node.cat(),
        discovered: node.is_discovered(),
        reachable: node.recent_description().is_some(),
        condition: condition(&node).to_owned(),
        addresses: node.addresses().iter().map(ToString::to_string).collect(),
    });
    let waiting = nodes.waiting().into_iter().map(|node| {
        let WaitingNode { key, url, node_id, cat, version, addresses, since_ns } = node;
        let addresses = addresses.iter().map(ToString::to_string).collect();
        NewNode { key, url, node_id, cat, version, addresses, since: rfc3339(since_ns) }
    });
    NodeList { nodes: known.collect(), waiting: waiting.collect() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};

    use hub_nodes::testing::{FakeNode, announce};
    use hub_store::{Access, Store};

    use super::*;
    use crate::client::{self, ControlError};

    async fn serving(path: &Path, dir: &Path) -> CancellationToken {
        let nodes = Nodes::new(&["http://127.0.0.1:9".parse().unwrap()]).unwrap();
        let admission = Admission::open(nodes.clone(), Store::open(dir, Access::Keeper).unwrap()).await.unwrap();
        let address = FakeNode::with(vec![]).serve().await;
        for host in ["attic", "cellar", "shed"] {
            announce(&nodes, &format!("http://{host}.local:50056"), address).await;
        }
        let stop = CancellationToken::new();
        tokio::spawn(Socket::bind(path).unwrap().serve(nodes, admission, Arc::new(|_: &Node| "ok"), stop.clone()));
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
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);

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
        tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
        let error = ask(&path, Command::ListNodes).await.unwrap_err().to_string();
        assert!(error.contains("no hub") && error.contains("control.sock"), "{error}");
    }
}
