//! The sound cards of the machine, and which of them an id means.
//!
//! The kernel numbers cards in the order in which it finds them, so card numbers change from boot to boot, and an id is
//! never a card number. The kernel also reports what does not change: `/proc/asound/cards` has a short id, a name and
//! the USB port, and `/sys/class/sound` leads to the USB device with its vendor, product and serial number. All of this
//! is read again whenever a device is opened.

use std::fs;
use std::path::{Path, PathBuf};

/// A sound card that can capture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Card {
    /// Its current number.
    pub(super) index: u32,
    /// ALSA's short id, such as `Mic`. Unique among the current cards.
    pub(super) id: String,
    /// Its name, such as `USB PnP Sound Device`.
    pub(super) name: String,
    /// The USB port that `/proc/asound/cards` names, such as `usb-0000:01:00.0-1.3`.
    pub(super) usb_port: Option<String>,
    /// The USB port as sysfs names it, such as `1-1.3`.
    pub(super) usb_path: Option<String>,
    /// Vendor, product and, if there is one, serial number, such as `0d8c:013c` or `0d8c:013c:A1B2`.
    pub(super) usb_id: Option<String>,
    /// Numbers of its capture devices, ascending. Never empty.
    pub(super) capture_devices: Vec<u32>,
}

impl Card {
    /// Whether an id names this card.
    fn is_named(&self, id: &str) -> bool {
        let is = |text: &Option<String>| text.as_deref().is_some_and(|text| text.eq_ignore_ascii_case(id));
        // An id may leave out the serial number.
        let vendor_product = self.usb_id.as_deref().and_then(|usb_id| usb_id.get(..VENDOR_PRODUCT_LENGTH));
        self.id == id
            || is(&self.usb_port)
            || is(&self.usb_path)
            || is(&self.usb_id)
            || vendor_product.is_some_and(|text| text.eq_ignore_ascii_case(id))
            || self.name.eq_ignore_ascii_case(id)
    }
}

/// `0d8c:013c`.
const VENDOR_PRODUCT_LENGTH: usize = 9;

/// What an id means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// This card.
    Card(Card),
    /// No current card. The id may be the name of an ALSA device, or of a card that is not plugged in.
    Other,
}

/// All cards that can capture, by number.
pub(super) fn cards() -> Vec<Card> {
    cards_in(Path::new("/"))
}

/// Which of the cards an id means. If it fits several (two microphones of one make), this is the card at the first USB
/// port, so that it is always the same one.
pub(super) fn resolve(id: &str, cards: &[Card]) -> Meaning {
    let by_alsa_name = pcm_card(id);
    let mut fitting: Vec<&Card> = match by_alsa_name {
        // An ALSA name such as `hw:CARD=Mic,DEV=0` is used as it is.
        Some(_) => Vec::new(),
        None => cards.iter().filter(|card| card.is_named(id)).collect(),
    };
    fitting.sort_by(|a, b| (&a.usb_port, &a.usb_path, a.index).cmp(&(&b.usb_port, &b.usb_path, b.index)));
    fitting.first().map_or(Meaning::Other, |&card| Meaning::Card(card.clone()))
}

/// The id to write to the config for a card. It stays the same after a reboot and, if possible, at another port.
pub(super) fn stable_id<'a>(card: &'a Card, cards: &[Card]) -> &'a str {
    let is_unique = |usb_id: &&str| cards.iter().filter(|other| other.is_named(usb_id)).count() == 1;
    card.usb_id.as_deref().filter(is_unique).or(card.usb_port.as_deref()).unwrap_or(&card.id)
}

/// The card in an ALSA device name: `Mic` in `hw:CARD=Mic,DEV=0` and in `plughw:Mic,0`.
pub(super) fn pcm_card(pcm: &str) -> Option<&str> {
    let (plugin, rest) = pcm.split_once(':')?;
    // The ids of USB devices and ports have colons too.
    if !CARD_PLUGINS.contains(&plugin) {
        return None;
    }
    let card = rest.split(',').next().unwrap_or(rest);
    Some(card.strip_prefix("CARD=").unwrap_or(card))
}

/// ALSA's plugins that take a card.
const CARD_PLUGINS: [&str; 6] = ["hw", "plughw", "dsnoop", "sysdefault", "front", "default"];

fn cards_in(root: &Path) -> Vec<Card> {
    let text = fs::read_to_string(root.join("proc/asound/cards")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let mut cards: Vec<Card> = lines.windows(2).filter_map(|pair| card_of(root, pair[0], pair[1])).collect();
    cards.sort_by_key(|card| card.index);
    cards
}

/// Reads the two lines of a card, such as
///
/// ```text
///  1 [Mic            ]: USB-Audio - USB PnP Sound Device
///                       C-Media Electronics Inc. USB PnP Sound Device at usb-0000:01:00.0-1.3, full speed
/// ```
fn card_of(root: &Path, first: &str, second: &str) -> Option<Card> {
    let (index, rest) = first.split_once('[')?;
    let index: u32 = index.trim().parse().ok()?;
    let (id, rest) = rest.split_once(']')?;
    let name = rest.split_once(" - ").map_or("", |(_, name)| name);
    let usb_port = second.rsplit_once(" at usb-").and_then(|(_, port)| port.split(',').next());
    let capture_devices = capture_devices(&root.join(format!("proc/asound/card{index}")));
    if capture_devices.is_empty() {
        return None;
    }
    let usb_device = usb_device(&root.join(format!("sys/class/sound/card{index}/device")));
    Some(Card {
        index,
        id: id.trim().to_owned(),
        name: name.trim().to_owned(),
        usb_port: usb_port.map(|port| format!("usb-{}", port.trim())),
        usb_path: usb_device.as_deref().and_then(|path| path.file_name()?.to_str().map(str::to_owned)),
        usb_id: usb_device.as_deref().and_then(usb_id),
        capture_devices,
    })
}

/// Numbers of the folders `pcm0c`, `pcm1c`, ...
fn capture_devices(card: &Path) -> Vec<u32> {
    let entries = fs::read_dir(card).into_iter().flatten().flatten();
    let mut devices: Vec<u32> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("pcm")?.strip_suffix('c')?.parse().ok())
        .collect();
    devices.sort_unstable();
    devices
}

/// The sysfs folder of the USB device that the card's interface belongs to.
fn usb_device(interface: &Path) -> Option<PathBuf> {
    let interface = fs::canonicalize(interface).ok()?;
    interface.ancestors().find(|folder| folder.join("idVendor").exists()).map(Path::to_path_buf)
}

fn usb_id(device: &Path) -> Option<String> {
    let read = |file: &str| fs::read_to_string(device.join(file)).ok().map(|text| text.trim().to_owned());
    let (vendor, product) = (read("idVendor")?, read("idProduct")?);
    match read("serial").filter(|serial| !serial.is_empty()) {
        Some(serial) => Some(format!("{vendor}:{product}:{serial}")),
        None => Some(format!("{vendor}:{product}")),
    }
}

#[cfg(test)]
mod tests;
