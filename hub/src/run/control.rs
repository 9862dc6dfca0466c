//! Starts the socket for commands.

use std::sync::Arc;

use daemon::config::Variables;
use daemon::control::Socket;
use hub_base::role::Role;
use hub_control::place;
use hub_control::server::{ConditionOf, Running, serve};
use hub_nodes::Node;
use hub_watch::condition::NodeHealth;
use tracing::{info, warn};

use super::listening::Audio;
use super::shared::Shared;

/// Starts the socket in the process that listens to the nodes. Without it the hub works too, so a failure is logged.
pub(super) fn start(shared: &Shared, audio: &Audio) {
    let Some(admission) = shared.admission.clone().filter(|_| shared.config.has(Role::Analysis)) else { return };
    let (Some(people), Some(store)) = (shared.people.clone(), shared.store.clone()) else { return };
    let path = place::of_hub(&Variables::of_process(), &shared.data_dir);
    match Socket::bind(&path) {
        Ok(socket) => {
            info!(socket = %path.display(), "commands are accepted");
            let (live, health) = (audio.live(), shared.config.health.clone());
            let condition: ConditionOf =
                Arc::new(move |node: &Node| NodeHealth::of(node, live.as_ref(), &health).condition.as_str());
            let running = Running { nodes: shared.nodes.clone(), admission, people, store, condition };
            shared.tasks.spawn(serve(socket, running, shared.stop.clone()));
        }
        Err(error) => {
            warn!(socket = %path.display(), %error, "commands such as `hub nodes` and `hub user` are not accepted");
        }
    }
}
