//! Which messages a client of the update stream wants.

use hub_base::error::Error;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::params::bad_word;

/// Kinds of messages that a client gets unless it names others, as in the `event` field of a message.
const USUAL_KINDS: [&str; 9] =
    ["event", "linked", "labelled", "deleted", "reevaluated", "redated", "gap", "level", "state"];

/// The kind that only clients get that name it.
pub(super) const SPECTRUM: &str = "spectrum";

/// Filter of messages.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct StreamParams {
    /// Only messages about the node with this URL or id.
    pub(super) node: Option<String>,
    /// Only these kinds, separated by commas: `event`, `linked`, `labelled`, `deleted`, `reevaluated`, `redated`,
    /// `gap`, `level`, `state`, `spectrum`. Default: all but `spectrum`.
    pub(super) kinds: Option<String>,
}

/// The messages that a client wants.
pub(super) struct Wanted {
    node: Option<String>,
    kinds: Vec<String>,
}

impl Wanted {
    /// `node` is the URL of the only node that the client wants messages about.
    ///
    /// # Errors
    /// [`hub_base::error::Code::BadRequest`] if a kind is unknown.
    pub(super) fn parse(kinds: Option<String>, node: Option<String>) -> Result<Self, Error> {
        let kinds: Vec<String> = match kinds {
            None => USUAL_KINDS.map(str::to_owned).into(),
            Some(kinds) => kinds.split(',').map(|kind| kind.trim().to_owned()).collect(),
        };
        if let Some(unknown) = kinds.iter().find(|kind| *kind != SPECTRUM && !USUAL_KINDS.contains(&kind.as_str())) {
            return Err(bad_word("kind", unknown, &format!("{} or {SPECTRUM}", USUAL_KINDS.join(", "))));
        }
        Ok(Self { node, kinds })
    }

    /// Whether the client wants this kind of message about this node. `None`: the message is about no node.
    pub(super) fn wants(&self, kind: &str, node: Option<&str>) -> bool {
        let right_node = match (&self.node, node) {
            (Some(wanted), Some(node)) => wanted == node,
            _ => true,
        };
        right_node && self.kinds.iter().any(|wanted| wanted == kind)
    }
}
