//! The lines that a client and the hub exchange.

use serde::{Deserialize, Serialize};

/// Version of the lines. A hub that knows another version answers with an error.
pub const VERSION: u32 = 1;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

/// A command. `name` is the key, URL, host name, id, first 16 digits of the id, or cat of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// List the nodes and those that wait.
    ListNodes,
    /// Admit a waiting node.
    AdmitNode {
        /// The node.
        name: String,
    },
    /// Admit all waiting nodes.
    AdmitAllNodes,
    /// Drop a waiting node until the hub is restarted.
    RefuseNode {
        /// The node.
        name: String,
    },
    /// Pair with a node.
    PairNode {
        /// The code that the node shows.
        code: String,
        /// Where the node is: `HOST` or `HOST:PORT`.
        host: String,
    },
    /// Take an admission or a pairing back.
    ForgetNode {
        /// The node.
        name: String,
    },
}

/// What the hub answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// All nodes.
    Nodes(NodeList),
    /// The URLs of the nodes that the command was about.
    Done(Vec<String>),
    /// The command failed.
    Error(Failure),
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A stable word to branch on, as in the API.
    pub code: String,
    /// For people.
    pub message: String,
}

/// The nodes that the hub knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeList {
    /// Those that it listens to.
    pub nodes: Vec<KnownNode>,
    /// Those that wait to be admitted.
    pub waiting: Vec<NewNode>,
}

/// A node that the hub listens to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownNode {
    /// Its URL.
    pub url: String,
    /// The id that it has proved, 64 hexadecimal digits.
    pub node_id: Option<String>,
    /// The cat that it hears.
    pub cat: Option<String>,
    /// Whether it was found by mDNS and is not in the config.
    pub discovered: bool,
    /// Whether it has answered recently.
    pub reachable: bool,
}

/// A node that waits to be admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewNode {
    /// Its id, or else its URL.
    pub key: String,
    /// The URL that it will have.
    pub url: String,
    /// The id that it has proved, 64 hexadecimal digits.
    pub node_id: Option<String>,
    /// The cat that it hears, by its own word.
    pub cat: Option<String>,
    /// Version of its program. Empty: it does not say.
    pub version: String,
    /// Where it answered.
    pub addresses: Vec<String>,
    /// Since when it waits, RFC 3339 in UTC.
    pub since: String,
}
