//! The services of the hub, which run in one process or in several.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A service of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The Owner service.
    Owner,
    /// The dog service.
    Dog,
    /// The catAnalysis service.
    Analysis,
    /// The HTTP gateway.
    Gateway,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Owner, Self::Dog, Self::Analysis, Self::Gateway];

    /// The name of the role, as in `--only`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Dog => "dog",
            Self::Analysis => "analysis",
            Self::Gateway => "gateway",
        }
    }
}
