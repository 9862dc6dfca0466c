//! Starts the socket for commands.

use daemon::config::Variables;
use hub_base::role::Role;
use hub_control::place;
use hub_control::server::Socket;
use tracing::{info, warn};

use super::shared::Shared;

/// Starts the socket in the process that listens to the nodes. Without it the hub works too, so a failure is logged.
pub(super) fn start(shared: &Shared) {
    let Some(admission) = shared.admission.clone().filter(|_| shared.config.has(Role::Analysis)) else { return };
    let Some(people) = shared.people.clone() else { return };
    let path = place::of_hub(&Variables::of_process(), &shared.data_dir);
    match Socket::bind(&path) {
        Ok(socket) => {
            info!(socket = %path.display(), "commands are accepted");
            shared.tasks.spawn(socket.serve(shared.nodes.clone(), admission, people, shared.stop.clone()));
        }
        Err(error) => {
            warn!(socket = %path.display(), %error, "commands such as `hub nodes` and `hub user` are not accepted")
        }
    }
}
