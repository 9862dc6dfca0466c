//! Starts the socket for commands.

use daemon::config::Variables;
use daemon::control::Socket;
use hub_base::role::Role;
use hub_control::place;
use hub_control::server::serve;
use tracing::{info, warn};

use super::shared::Shared;

/// Starts the socket in the process that listens to the nodes. Without it the hub works too, so a failure is logged.
pub(super) fn start(shared: &Shared) {
    let Some(admission) = shared.admission.clone().filter(|_| shared.config.has(Role::Analysis)) else { return };
    let path = place::of_hub(&Variables::of_process(), &shared.data_dir);
    match Socket::bind(&path) {
        Ok(socket) => {
            info!(socket = %path.display(), "commands are accepted");
            shared.tasks.spawn(serve(socket, shared.nodes.clone(), admission, shared.stop.clone()));
        }
        Err(error) => warn!(socket = %path.display(), %error, "commands such as `hub nodes` are not accepted"),
    }
}
