//! The lines that a client and the hub exchange.

use serde::{Deserialize, Serialize};

/// Version of the lines. A hub that knows another version answers with an error.
pub const VERSION: u32 = 1;

/// Longest line of a client, in bytes.
pub const MAX_REQUEST_BYTES: u64 = 4 << 10;

/// Longest line of the hub, in bytes: the answer about 128 nodes has about 100 KB.
pub const MAX_ANSWER_BYTES: u64 = 1 << 20;

/// What a client sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

/// A command. `name` is the key, URL, host name, IP address, id, first 16 digits of the id, or cat of a node.
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
    /// Take an admission back.
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
    /// The admission of a node was taken back.
    Forgotten {
        /// The URL of the node.
        url: String,
        /// The hub admits every node, so it admits this one again after its next start.
        until_restart: bool,
    },
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
    /// Those that it listens to. Without any, the node on its own machine, which it looks for.
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
    /// Its condition, as in `/readyz`. Empty: a hub of an earlier version does not say.
    #[serde(default)]
    pub condition: String,
    /// Where it announces that it can be reached. Empty: it does not.
    #[serde(default)]
    pub addresses: Vec<String>,
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
