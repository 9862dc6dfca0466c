//! Where the socket is.

use std::path::{Path, PathBuf};

use daemon::config::Variables;
use daemon::control::{self, SOCKET};

/// The runtime folder of the service of the Debian package.
const SERVICE_FOLDER: &str = "/run/meowlink-hub";

/// The data folder of the service of the Debian package.
pub const SERVICE_DATA: &str = "/var/lib/meowlink-hub";

/// Where a hub makes its socket: in systemd's `$RUNTIME_DIRECTORY`, else in its data folder.
pub fn of_hub(variables: &Variables, data_dir: &Path) -> PathBuf {
    control::place(variables, data_dir)
}

/// Where a command looks for the socket: in the given data folder, else in the runtime folder of the service, else in
/// the default data folder.
pub fn of_client(given_data_dir: Option<&Path>, default_data_dir: Option<&Path>) -> PathBuf {
    let service = || Path::new(SERVICE_FOLDER).join(SOCKET);
    // A folder that this user may not look into counts as one with a socket: connecting says what is wrong.
    let is_there = |socket: &Path| socket.try_exists().unwrap_or(true);
    match given_data_dir {
        Some(folder) if folder == Path::new(SERVICE_DATA) => service(),
        Some(folder) => {
            // The service has its socket in its runtime folder, wherever its data lies.
            let own = folder.join(SOCKET);
            let is_of_service = !is_there(&own) && is_there(&service());
            if is_of_service { service() } else { own }
        }
        None if is_there(&service()) => service(),
        None => default_data_dir.map_or_else(service, |folder| folder.join(SOCKET)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_in_the_runtime_folder_or_else_with_the_data() {
        let with = |folder: &str| [("RUNTIME_DIRECTORY", folder)].into_iter().collect::<Variables>();
        assert_eq!(of_hub(&with("/run/a:/run/b"), Path::new("/d")), Path::new("/run/a/control.sock"));
        assert_eq!(of_hub(&with("relative"), Path::new("/d")), Path::new("/d/control.sock"));
        assert_eq!(of_hub(&Variables::default(), Path::new("/d")), Path::new("/d/control.sock"));
        assert_eq!(of_client(Some(Path::new("/d")), None), Path::new("/d/control.sock"));
        assert_eq!(of_client(Some(Path::new(SERVICE_DATA)), None), Path::new("/run/meowlink-hub/control.sock"));
    }
}
