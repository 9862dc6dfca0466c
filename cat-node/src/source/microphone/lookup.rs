//! Finds the device that an id means, and says what to do if it cannot be opened.

use std::collections::BTreeSet;

use cpal::traits::HostTrait;
use cpal::{Device, ErrorKind};

use super::cards::{self, Card};

/// What to do if no microphone is found.
pub(super) const ADVICE: &str = "plug in a microphone, see `cat-node devices` and `arecord -l`; the user that runs \
                                 cat-node must be in the group audio (or have SupplementaryGroups=audio in the systemd \
                                 unit)";

/// What to do if `cat-node devices` finds no microphone. It does not advise to run itself.
pub(super) const LIST_ADVICE: &str = "plug in a microphone, and see `arecord -l`; the user that runs cat-node must be \
                                      in the group audio (or have SupplementaryGroups=audio in the systemd unit)";
/// How to record where a sound server holds the card.
pub(super) const BOTH_WAYS: &str = "a sound server belongs to the session of a user, which the system's service cannot \
                                    reach: run the node in that session (systemctl --user enable --now cat-node), or \
                                    name a server for the whole system by PULSE_SERVER; docs/hardware.md shows both";

/// ALSA's name for the default device of the system.
pub(super) const DEFAULT_DEVICE: &str = "default";

/// ALSA's names for the capture devices of a card: first the direct ones, then those with a converter for formats that
/// cpal does not know (packed 24 bits).
pub(super) fn card_devices(card: &Card) -> Vec<String> {
    let names = |plugin: &'static str| {
        card.capture_devices.iter().map(move |device| format!("{plugin}:CARD={},DEV={device}", card.index))
    };
    names("hw").chain(names("plughw")).collect()
}

/// The device with an ALSA name. cpal opens only the names that it lists: `default`, those of ALSA's configuration, and
/// every card by its number.
pub(super) fn find(host: &cpal::Host, name: &str) -> Option<Device> {
    if name == DEFAULT_DEVICE {
        return host.default_input_device();
    }
    let id = cpal::DeviceId::new(cpal::HostId::Alsa, by_number(name));
    host.device_by_id(&id).or_else(|| host.device_by_id(&cpal::DeviceId::new(cpal::HostId::Alsa, name)))
}

/// `hw:CARD=Mic,DEV=0` with the card's current number instead of `Mic`, because cpal lists every card by its number.
fn by_number(name: &str) -> String {
    let card = cards::pcm_card(name).and_then(|id| cards::cards().into_iter().find(|card| card.id == id));
    match (card, name.split_once(':')) {
        (Some(card), Some((plugin @ ("hw" | "plughw"), rest))) => {
            let device = rest.split_once(',').map_or("0", |(_, device)| device.strip_prefix("DEV=").unwrap_or(device));
            format!("{plugin}:CARD={},DEV={device}", card.index)
        }
        _ => name.to_owned(),
    }
}

pub(super) fn not_found(id: &str, cards: &[Card]) -> String {
    let there: BTreeSet<&str> = cards.iter().map(|card| cards::stable_id(card, cards)).collect();
    if there.is_empty() {
        return format!("no capture device \"{id}\" found; {ADVICE}");
    }
    let there: Vec<&str> = there.into_iter().collect();
    format!("no capture device \"{id}\" found; there are: {}; {ADVICE}", there.join(", "))
}

/// Turns an error of cpal into a sentence that says what to do.
pub(super) fn explain(id: &str, error: &cpal::Error) -> String {
    match error.kind() {
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable | ErrorKind::UnsupportedOperation => {
            format!("no capture device \"{id}\" found; {ADVICE}")
        }
        ErrorKind::PermissionDenied => format!("this user has no permission to open {id}; {ADVICE}"),
        ErrorKind::DeviceBusy => {
            format!(
                "{id} is in use by another program; stop it, or if it is a sound server, share its microphone; {BOTH_WAYS}"
            )
        }
        _ => format!("{id} cannot be opened: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_that_a_sound_server_holds_is_an_error_that_names_both_ways() {
        let why = explain("Mic", &ErrorKind::DeviceBusy.into());
        assert!(why.contains("systemctl --user") && why.contains("PULSE_SERVER"), "{why}");
    }

    #[test]
    fn card_is_tried_directly_before_its_converter() {
        let card = Card { index: 2, capture_devices: vec![0, 1], ..Card::default() };
        let names = ["hw:CARD=2,DEV=0", "hw:CARD=2,DEV=1", "plughw:CARD=2,DEV=0", "plughw:CARD=2,DEV=1"];
        assert_eq!(card_devices(&card), names);
    }
}
