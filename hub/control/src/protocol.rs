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
    /// Pair with a node.
    PairNode {
        /// The code that the node shows.
        code: String,
        /// Where the node is: `HOST` or `HOST:PORT`. `None`: the waiting nodes that show a code are tried.
        #[serde(default)]
        host: Option<String>,
    },
    /// Take an admission or a pairing back.
    ForgetNode {
        /// The node.
        name: String,
    },
    /// Move the history of a node whose key is lost to the node that replaces it.
    ReplaceNode {
        /// The node whose key is lost.
        old: String,
        /// The node that replaces it.
        new: String,
        /// Do it also if both were heard at the same time.
        #[serde(default)]
        force: bool,
    },
    /// Change the hub's key.
    RotateKey,
    /// How far the history of a node has moved to the node that replaces it.
    ReplacementProgress {
        /// The id of the node whose key is lost, 64 hexadecimal digits.
        old: String,
    },
    /// Something about users and tokens.
    People(PeopleCommand),
    /// Delete everything about a cat, everything before a time, or what is both.
    Delete {
        /// Name of the cat.
        #[serde(default)]
        cat: Option<String>,
        /// Delete what began before this time, RFC 3339.
        #[serde(default)]
        before: Option<String>,
        /// Only count what would be deleted.
        dry_run: bool,
    },
}

/// A command about users and tokens of programs. Roles are words: `viewer`, `listener`, `owner`, `admin`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "snake_case")]
pub enum PeopleCommand {
    /// List the users.
    ListUsers,
    /// Add a user.
    AddUser {
        /// The name to log in with.
        name: String,
        /// The role. `None`: admin for the first user, viewer for others.
        role: Option<String>,
        /// The password.
        password: String,
    },
    /// Change the password of a user, and end the user's sessions.
    SetPassword {
        /// The user.
        name: String,
        /// The password.
        password: String,
    },
    /// Change the role of a user.
    SetRole {
        /// The user.
        name: String,
        /// The role.
        role: String,
    },
    /// Remove a user.
    RemoveUser {
        /// The user.
        name: String,
    },
    /// List the tokens.
    ListTokens,
    /// Make a token.
    AddToken {
        /// The name of the token.
        name: String,
        /// The role.
        role: String,
        /// After how many days it expires. `None`: never.
        days: Option<u32>,
    },
    /// Remove a token.
    RemoveToken {
        /// The token.
        name: String,
    },
}

impl std::fmt::Debug for PeopleCommand {
    /// Without names and passwords.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("PeopleCommand")
    }
}

/// What the hub answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// All nodes.
    Nodes(NodeList),
    /// The URLs of the nodes, or the users or tokens, that the command was about.
    Done(Vec<String>),
    /// The admission of a node was taken back.
    Forgotten {
        /// The URL of the node.
        url: String,
        /// The hub admits every node, so it admits this one again after its next start.
        until_restart: bool,
    },
    /// A node has the history of another one now.
    Replaced {
        /// The URL of the node.
        url: String,
        /// Events that it got.
        events: u64,
        /// Clips of these events.
        clips: u64,
        /// Labels of these events.
        labels: u64,
    },
    /// Fingerprint of the hub's new key.
    KeyChanged(String),
    /// The history of a node still moves to the node that replaces it.
    Replacing {
        /// The id of the node whose key is lost, 64 hexadecimal digits.
        old: String,
        /// Events that have moved so far.
        events: u64,
        /// Events that are still to move.
        events_left: u64,
    },
    /// All users.
    Users(Vec<UserLine>),
    /// All tokens.
    Tokens(Vec<TokenLine>),
    /// The text of a new token. The hub does not keep it.
    Token(String),
    /// A deletion, or the preview of one.
    Deletion(DeletionLine),
    /// The command failed.
    Error(Failure),
}

/// A deletion, or the preview of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionLine {
    /// Number of the deletion. `None`: it is a preview.
    pub id: Option<i64>,
    /// What it is about, as in the audit log.
    pub what: String,
    /// Events that a preview has counted, as are the numbers below. They are 0 when the deletion begins.
    pub events: u64,
    /// Recordings of these events.
    pub clips: u64,
    /// Labels of these events.
    pub labels: u64,
    /// Notifications.
    pub notifications: u64,
    /// Analyses.
    pub analyses: u64,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserLine {
    /// The name to log in with.
    pub name: String,
    /// The role.
    pub role: String,
    /// When the user was added, RFC 3339 in UTC.
    pub created_at: String,
    /// Last use of a session, RFC 3339 in UTC, to ten minutes.
    pub used_at: Option<String>,
}

/// A token of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenLine {
    /// The name of the token.
    pub name: String,
    /// The role.
    pub role: String,
    /// When it was made, RFC 3339 in UTC.
    pub created_at: String,
    /// When it expires, RFC 3339 in UTC. `None`: never.
    pub expires_at: Option<String>,
    /// Last use, RFC 3339 in UTC, to ten minutes.
    pub used_at: Option<String>,
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
    /// Fingerprint of the key that a paired node must have, 64 hexadecimal digits. It is the id until the node changes
    /// its key.
    #[serde(default)]
    pub key_fingerprint: Option<String>,
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
    /// It answers only after it is paired: `hub pair`.
    #[serde(default)]
    pub needs_code: bool,
}
