//! Networks, disks, clocks and limits on memory that only the rows see. Each is removed when its guard is dropped.
//!
//! If the process is killed, the kernel removes them with the namespaces. Only the folder of a memory cgroup stays:
//! [`prepare`] removes those of earlier runs.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set by `run` if it could make the namespaces.
const SANDBOX_VARIABLE: &str = "MEOWLINK_TORTURE_SANDBOX";

/// Beginning of the names of memory cgroups.
const CGROUP_PREFIX: &str = "meowlink-torture-";

/// Whether the rows have namespaces of their own.
///
/// # Errors
/// If not. The error says what is missing.
pub(crate) fn have_namespaces() -> Result<(), String> {
    match std::env::var_os(SANDBOX_VARIABLE) {
        Some(_) => Ok(()),
        None => Err("no namespaces of their own: this needs root or user namespaces".into()),
    }
}

/// Prepares the namespaces for the rows.
///
/// # Panics
/// If the loopback interface of the namespace cannot be used.
pub(crate) fn prepare() {
    if have_namespaces().is_ok() {
        // `ip netns` keeps its names in /run. It gives each program mounts of its own: they are shared, so that what is
        // unmounted here is unmounted there too.
        must("ip link set lo up && mount --make-rshared / && mount -t tmpfs tmpfs /run && mkdir /run/netns");
    }
    for root in cgroup_roots() {
        for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(CGROUP_PREFIX) {
                // An error means that another run still uses it.
                let _ = std::fs::remove_dir(entry.path());
            }
        }
    }
}

/// Runs shell commands.
///
/// # Errors
/// What they wrote to standard error, if they fail.
pub(crate) fn shell(commands: &str) -> Result<String, String> {
    let output = Command::new("sh").args(["-c", commands]).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().last().unwrap_or("a command failed and said nothing").to_owned())
}

/// As [`shell`], for commands that must work.
///
/// # Panics
/// If they fail.
pub(crate) fn must(commands: &str) -> String {
    shell(commands).unwrap_or_else(|error| panic!("{commands}: {error}"))
}

/// A network with a bridge, whose first address is that of this process, and machines that are connected to it.
#[derive(Debug)]
pub(crate) struct Network {
    subnet: u8,
    machines: Vec<String>,
}

impl Network {
    /// The network 10.77.SUBNET.0/24.
    ///
    /// # Panics
    /// If it cannot be made.
    pub(crate) fn start(subnet: u8) -> Self {
        must(&format!(
            "ip link add cats{subnet} type bridge && ip link set cats{subnet} up \
                && ip address add 10.77.{subnet}.1/24 dev cats{subnet}"
        ));
        Self { subnet, machines: Vec::new() }
    }

    /// Connects a machine. Returns its name and its address.
    ///
    /// # Panics
    /// If it cannot be made.
    pub(crate) fn machine(&mut self) -> (String, IpAddr) {
        let (subnet, nth) = (self.subnet, self.machines.len() + 2);
        let name = format!("pi{subnet}x{nth}");
        must(&format!(
            "ip netns add {name} && ip -n {name} link set lo up \
                && ip link add v{name} type veth peer name eth0 netns {name} \
                && ip link set v{name} master cats{subnet} up \
                && ip -n {name} address add 10.77.{subnet}.{nth}/24 dev eth0 && ip -n {name} link set eth0 up"
        ));
        self.machines.push(name.clone());
        (name, IpAddr::V4(Ipv4Addr::new(10, 77, subnet, u8::try_from(nth).expect("few machines"))))
    }

    /// Pulls the plug of a machine, or plugs it in again. No end of a connection gets through.
    ///
    /// # Panics
    /// If there is no such machine.
    pub(crate) fn plug(machine: &str, connected: bool) {
        must(&format!("ip link set v{machine} {}", if connected { "up" } else { "down" }));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Errors mean that a part is already gone.
        for name in &self.machines {
            let _ = shell(&format!("ip netns delete {name}"));
        }
        let _ = shell(&format!("ip link delete cats{}", self.subnet));
    }
}

/// Words that start a program on a machine of a network.
pub(crate) fn on(machine: &str) -> Vec<String> {
    ["ip", "netns", "exec", machine].map(Into::into).to_vec()
}

/// Words that start a program on a machine of a network that has this host name.
pub(crate) fn on_as(machine: &str, host: &str) -> Vec<String> {
    let mut words = on(machine);
    let script = format!("hostname {host} && exec \"$0\" \"$@\"");
    words.extend(["unshare", "--uts", "sh", "-c", &script].map(Into::into));
    words
}

/// A mounted file system. It is unmounted on drop.
#[derive(Debug)]
pub(crate) struct Mount {
    folder: tempfile::TempDir,
    /// The image that is mounted. `None`: memory.
    image: Option<PathBuf>,
}

impl Mount {
    /// A file system in memory of this many megabytes.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub(crate) fn memory(megabytes: u32) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        shell(&format!("mount -t tmpfs -o size={megabytes}m tmpfs {}", folder.path().display()))?;
        Ok(Self { folder, image: None })
    }

    /// A new ext4 file system in a file in `parent`, which becomes read-only at its first error, as the disk of a
    /// Raspberry Pi does.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub(crate) fn image(parent: &Path, megabytes: u32) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let image = parent.join("disk.img");
        shell(&format!("truncate -s {megabytes}M {0} && mke2fs -q -t ext4 {0}", image.display()))?;
        let mount = Self { folder, image: Some(image) };
        mount.mount()?;
        Ok(mount)
    }

    /// The folder on it.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn mount(&self) -> Result<String, String> {
        let Some(image) = &self.image else { return Ok(String::new()) };
        shell(&format!("mount -o loop,errors=remount-ro {} {}", image.display(), self.path().display()))
    }

    /// Breaks the disk: the kernel makes it read-only.
    ///
    /// # Errors
    /// If the system does not allow it.
    pub(crate) fn fail(&self) -> Result<(), String> {
        let device = shell(&format!("findmnt -no SOURCE {}", self.path().display()))?;
        let device = device.trim_start_matches("/dev/");
        shell(&format!("echo 1 > /sys/fs/ext4/{device}/trigger_fs_error")).map(drop)
    }

    /// Repairs the disk, as the next boot of the machine does. No program may use it.
    ///
    /// # Panics
    /// If it cannot be repaired.
    pub(crate) fn repair(&self) {
        let image = self.image.as_ref().expect("a disk in a file");
        // e2fsck returns 1 when it has corrected something.
        must(&format!("umount {} && {{ e2fsck -fy {} || [ $? = 1 ]; }}", self.path().display(), image.display()));
        self.mount().unwrap_or_else(|error| panic!("the repaired disk: {error}"));
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // An error means that it is not mounted.
        let _ = shell(&format!("umount --lazy {}", self.path().display()));
    }
}

/// A clock that is wrong for the programs that it starts. Their steady clock is right.
#[derive(Debug)]
pub(crate) struct Clock {
    folder: tempfile::TempDir,
    library: String,
}

impl Clock {
    /// A clock that is off by `offset`, such as "-14d".
    ///
    /// # Errors
    /// If libfaketime is not installed.
    pub(crate) fn off_by(offset: &str) -> Result<Self, String> {
        let library = shell("find /usr/lib -name libfaketime.so.1 | head -n 1")?;
        if library.is_empty() {
            return Err("libfaketime is not installed".into());
        }
        let clock = Self { folder: tempfile::tempdir().map_err(|error| error.to_string())?, library };
        clock.set(offset);
        Ok(clock)
    }

    /// Sets the clock.
    ///
    /// # Panics
    /// If the file of its offset cannot be written.
    pub(crate) fn set(&self, offset: &str) {
        let file = self.file();
        let new = file.with_extension("new");
        std::fs::write(&new, format!("{offset}\n")).and_then(|()| std::fs::rename(&new, &file)).expect("the offset");
    }

    /// Words that start a program with this clock.
    pub(crate) fn wrapper(&self) -> Vec<String> {
        vec![
            "env".into(),
            format!("LD_PRELOAD={}", self.library),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file().display()),
            "FAKETIME_NO_CACHE=1".into(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
        ]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("offset")
    }
}

/// A limit on the memory of programs together, as `MemoryMax` of a unit. Programs that exceed it are killed.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    folder: PathBuf,
}

impl MemoryLimit {
    /// A limit of this many megabytes (MiB).
    ///
    /// # Errors
    /// If the system does not allow it.
    pub(crate) fn new(name: &str, megabytes: u64) -> Result<Self, String> {
        let [v1, v2] = cgroup_roots();
        let second = !v1.is_dir();
        let root = if second { v2 } else { v1 };
        let folder = root.join(format!("{CGROUP_PREFIX}{}-{name}", std::process::id()));
        let denied = |error: std::io::Error| format!("no memory cgroup: {error}");
        if second {
            // An error shows when the limit is written.
            let _ = std::fs::write(root.join("cgroup.subtree_control"), "+memory");
        }
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(denied(error)),
            _ => {}
        }
        let limit = Self { folder };
        let file = limit.folder.join(if second { "memory.max" } else { "memory.limit_in_bytes" });
        std::fs::write(file, (megabytes << 20).to_string()).map_err(denied)?;
        Ok(limit)
    }

    /// Words that start a program under this limit.
    pub(crate) fn wrapper(&self) -> Vec<String> {
        let script = format!("echo 0 > {}/cgroup.procs && exec \"$0\" \"$@\"", self.folder.display());
        vec!["sh".into(), "-c".into(), script]
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // An error means that a program still runs; `prepare` removes it in the next run.
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Where the first and the second version of cgroups limit memory.
fn cgroup_roots() -> [PathBuf; 2] {
    ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(PathBuf::from)
}
