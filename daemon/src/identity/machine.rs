//! What tells one machine from another, so that a copied memory card is noticed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The marks of a machine that do not travel with its memory card. `/etc/machine-id` does, and is none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Serial number of the board (`/proc/device-tree/serial-number`, as on a Raspberry Pi), or of the product by its
    /// firmware (DMI, readable by root alone).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Permanent addresses of its network interfaces, without those that are virtual or drawn at random.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub macs: BTreeSet<String>,
}

/// Most bytes of a mark.
const MAX_MARK_BYTES: usize = 200;

/// `addr_assign_type` of an interface whose address was made with it (`NET_ADDR_PERM` of the Linux kernel).
const PERMANENT: &str = "0";

impl Machine {
    /// The machine that this program runs on.
    pub fn this() -> Self {
        Self::below(Path::new("/"))
    }

    /// The machine whose `/proc` and `/sys` are below `root`. A mark that cannot be read is left out.
    pub fn below(root: &Path) -> Self {
        let mark = |path: &str| mark(&root.join(path));
        let serial = mark("proc/device-tree/serial-number").or_else(|| mark("sys/class/dmi/id/product_uuid"));
        Self { serial, macs: macs(&root.join("sys/class/net")) }
    }

    /// Whether both are the same machine, as far as can be told. Serial numbers decide where both have one. Otherwise
    /// one common network address is enough, because an adapter may be plugged in or out. Without marks to compare,
    /// nothing says that they differ.
    pub fn is_same_as(&self, other: &Self) -> bool {
        match (&self.serial, &other.serial) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ if self.macs.is_empty() || other.macs.is_empty() => true,
            _ => !self.macs.is_disjoint(&other.macs),
        }
    }
}

fn mark(path: &Path) -> Option<String> {
    let text = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&text[..text.len().min(MAX_MARK_BYTES)]).into_owned();
    let text = text.trim_matches(|character: char| character == '\0' || character.is_whitespace());
    // Boards without a number say so with zeros.
    let says_something = text.chars().any(|character| character.is_alphanumeric() && character != '0');
    says_something.then(|| text.to_owned())
}

fn macs(interfaces: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(interfaces) else { return BTreeSet::new() };
    let permanent = |interface: &Path| {
        // A virtual interface has no device.
        let is_device = interface.join("device").exists();
        is_device && mark_or_zero(&interface.join("addr_assign_type")).as_deref() == Some(PERMANENT)
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|interface| permanent(interface))
        .filter_map(|interface| mark(&interface.join("address")))
        .collect()
}

fn mark_or_zero(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(serial: Option<&str>, macs: &[&str]) -> Machine {
        Machine { serial: serial.map(str::to_owned), macs: macs.iter().map(|&mac| mac.to_owned()).collect() }
    }

    #[test]
    fn serial_number_decides_then_a_common_address() {
        let pi = machine(Some("10000000a1"), &["b8:27:eb:01:02:03"]);
        for (other, same) in [
            (machine(Some("10000000a1"), &[]), true),
            (machine(Some("10000000a2"), &["b8:27:eb:01:02:03"]), false),
            (machine(None, &["b8:27:eb:01:02:03", "00:e0:4c:00:00:01"]), true),
            (machine(None, &["00:e0:4c:00:00:01"]), false),
            (machine(None, &[]), true),
        ] {
            assert_eq!(pi.is_same_as(&other), same, "{other:?}");
            assert_eq!(other.is_same_as(&pi), same, "{other:?}");
        }
    }

    #[test]
    fn marks_are_read_and_what_is_no_mark_is_left_out() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(Machine::below(root.path()), Machine::default());
        write("proc/device-tree/serial-number", "0000000000000000\0");
        assert_eq!(Machine::below(root.path()).serial, None, "a board without a number");
        write("proc/device-tree/serial-number", "10000000abcdef01\0");
        for (name, assign_type, is_device) in [("eth0", "0", true), ("wlan0", "1", true), ("docker0", "0", false)] {
            write(&format!("sys/class/net/{name}/address"), &format!("b8:27:eb:00:00:0{}\n", name.len()));
            write(&format!("sys/class/net/{name}/addr_assign_type"), &format!("{assign_type}\n"));
            if is_device {
                write(&format!("sys/class/net/{name}/device/uevent"), "");
            }
        }
        assert_eq!(Machine::below(root.path()), machine(Some("10000000abcdef01"), &["b8:27:eb:00:00:04"]));
    }
}
