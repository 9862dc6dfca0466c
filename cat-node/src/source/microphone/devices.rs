//! `cat-node devices`: lists every microphone, with the id to paste into the config.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cpal::traits::{DeviceTrait, HostTrait};
use daemon::terminal::escape;

use super::cards::{self, Card};
use super::keeper::{Abandoned, KeepError, keep};
use super::lookup::{DEFAULT_DEVICE, LIST_ADVICE, card_devices, find};
use super::pulse::{self, NoAudio, PULSE};
use crate::source::interface::SourceFormat;

/// How long one device may take to report its formats.
const QUERY_DEADLINE: Duration = Duration::from_secs(3);

/// How many devices may hang while they are asked. After these, no more devices are asked.
const MOST_HANGING: isize = 4;
static HANGING: Abandoned = Abandoned::new(0);

/// How long listing the names may take.
const LIST_DEADLINE: Duration = Duration::from_secs(5);

/// ALSA devices that are not microphones of their own: parts and views of cards, converters, and `null`.
const JUNK: [&str; 26] = [
    // The sound server is asked itself.
    "pulse",
    "null",
    "default",
    "hw",
    "plughw",
    "sysdefault",
    "front",
    "rear",
    "center_lfe",
    "side",
    "surround21",
    "surround40",
    "surround41",
    "surround50",
    "surround51",
    "surround71",
    "iec958",
    "hdmi",
    "dmix",
    "dsnoop",
    "usbstream",
    "lavrate",
    "samplerate",
    "speexrate",
    "speex",
    "upmix",
];

/// A device that can be opened as a microphone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEntry {
    /// The id to write after `microphone:`.
    pub id: String,
    /// A description for people.
    pub description: String,
    /// Other ids of the same device.
    pub also: Vec<String>,
    /// Its formats, or why it cannot be opened.
    pub offer: Result<Offer, String>,
}

/// The formats that a device offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Lowest and highest sampling rates, in hertz, ascending. Equal for a single rate. `u32::MAX`: there is no highest
    /// rate.
    pub rates_hz: Vec<(u32, u32)>,
    /// Numbers of channels, ascending.
    pub channels: Vec<u16>,
}

/// Lists everything that can be opened as a microphone: the cards, the sources of the sound server, and the system's
/// default. With `all`
/// also the devices that ALSA derives from them (`plughw:`, `surround51:`, `null`, ...).
///
/// # Errors
/// If there is none. The sentence says what to do.
pub fn devices(all: bool) -> Result<Vec<DeviceEntry>, String> {
    let cards = cards::cards();
    let mut entries: Vec<DeviceEntry> = cards.iter().map(|card| card_entry(card, &cards)).collect();
    let no_server = match sound_server() {
        Ok(sources) => {
            entries.extend(sources);
            None
        }
        Err(why) => why,
    };
    entries.push(entry(DEFAULT_DEVICE, "the system's default, from the configuration of ALSA", Vec::new(), vec![]));
    for (name, description) in listed()? {
        let plugin = name.split(':').next().unwrap_or(&name);
        if all && ![DEFAULT_DEVICE, PULSE].contains(&name.as_str()) || !JUNK.contains(&plugin) {
            entries.push(entry(&name, &description, Vec::new(), vec![]));
        }
    }
    if !all {
        // ALSA lists names that cannot be opened, such as `pulse` without its server.
        entries.retain(|entry| entry.offer.is_ok() || entry.id != DEFAULT_DEVICE && !entry.also.is_empty());
    }
    if entries.is_empty() {
        let no_server = no_server.map(|why| format!("; {why}")).unwrap_or_default();
        return Err(format!("no capture device found; {LIST_ADVICE}{no_server}"));
    }
    Ok(entries)
}

/// The sources of the sound server, its default first.
///
/// # Errors
/// Why a server that should be there does not answer. `None`: there is no sound server.
fn sound_server() -> Result<Vec<DeviceEntry>, Option<String>> {
    let sources = match keep("device-list", &HANGING, LIST_DEADLINE, LIST_DEADLINE, || Ok((pulse::list()?, ()))) {
        Ok((sources, _)) => sources,
        Err(KeepError::Open(NoAudio::NotOurs(why) | NoAudio::Other(why))) => return Err(Some(why)),
        Err(_) => return Err(None),
    };
    let offer = |format: SourceFormat| {
        Ok(Offer { rates_hz: vec![(format.sample_rate_hz, format.sample_rate_hz)], channels: vec![format.channels] })
    };
    let default = sources.iter().find(|source| source.is_default).map(|source| DeviceEntry {
        id: PULSE.into(),
        description: format!("the default of the sound server: {}", source.description),
        also: Vec::new(),
        offer: offer(source.format),
    });
    let named = sources.into_iter().map(|source| DeviceEntry {
        id: source.id,
        description: source.description,
        also: Vec::new(),
        offer: offer(source.format),
    });
    Ok(default.into_iter().chain(named).collect())
}

fn card_entry(card: &Card, cards: &[Card]) -> DeviceEntry {
    let id = cards::stable_id(card, cards);
    let names = [card.usb_id.as_ref(), card.usb_port.as_ref(), card.usb_path.as_ref(), Some(&card.id)];
    let mut also: Vec<String> = names.into_iter().flatten().filter(|name| *name != id).cloned().collect();
    also.push(format!("hw:CARD={},DEV={}", card.id, card.capture_devices[0]));
    entry(id, &card.name, also, card_devices(card))
}

/// Asks a device for its formats. `names` are ALSA's names for it, of which the first that answers counts. If it is
/// empty, the id is the name.
fn entry(id: &str, description: &str, also: Vec<String>, names: Vec<String>) -> DeviceEntry {
    let names = if names.is_empty() { vec![id.to_owned()] } else { names };
    let mut offer = Err(format!("no capture device \"{id}\" found"));
    for name in names {
        offer = ask(name);
        if offer.is_ok() {
            break;
        }
    }
    DeviceEntry { id: id.to_owned(), description: description.to_owned(), also, offer }
}

fn ask(name: String) -> Result<Offer, String> {
    if HANGING.load(Ordering::Acquire) >= MOST_HANGING {
        return Err("it was not asked, because too many devices did not answer".into());
    }
    let query = move || -> Result<(Offer, ()), String> {
        let _messages = alsa::Output::local_error_handler();
        let host = cpal::host_from_id(cpal::HostId::Alsa).map_err(|error| error.to_string())?;
        let device = find(&host, &name).ok_or_else(|| format!("ALSA does not list {name}"))?;
        let configs = device.supported_input_configs().map_err(|error| error.to_string())?;
        let (mut rates_hz, mut channels) = (BTreeSet::new(), BTreeSet::new());
        for config in configs {
            rates_hz.insert((config.min_sample_rate(), config.max_sample_rate()));
            channels.insert(config.channels());
        }
        Ok((Offer { rates_hz: rates_hz.into_iter().collect(), channels: channels.into_iter().collect() }, ()))
    };
    match keep("device-query", &HANGING, QUERY_DEADLINE, QUERY_DEADLINE, query) {
        Ok((offer, _)) => Ok(offer),
        Err(KeepError::Open(why)) => Err(why),
        Err(error) => Err(format!("it does not answer: {error}")),
    }
}

/// Names and descriptions of the ALSA devices that can capture, according to ALSA.
fn listed() -> Result<Vec<(String, String)>, String> {
    let list = || -> Result<(Vec<(String, String)>, ()), String> {
        let _messages = alsa::Output::local_error_handler();
        let host = cpal::host_from_id(cpal::HostId::Alsa).map_err(|error| format!("{error}; {LIST_ADVICE}"))?;
        let devices = host.devices().map_err(|error| format!("{error}; {LIST_ADVICE}"))?;
        let named = devices.filter(DeviceTrait::supports_input).filter_map(|device| {
            let description = device.description().ok()?;
            Some((device.id().ok()?.id().to_owned(), description.name().to_owned()))
        });
        Ok((named.collect(), ()))
    };
    match keep("device-list", &HANGING, LIST_DEADLINE, LIST_DEADLINE, list) {
        Ok((names, _)) => Ok(names),
        Err(KeepError::Open(why)) => Err(why),
        Err(error) => Err(format!("ALSA does not answer: {error}")),
    }
}

impl fmt::Display for DeviceEntry {
    /// Writes a few lines for the terminal.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "microphone:{}", self.id)?;
        if !self.description.is_empty() {
            writeln!(out, "    {}", escape(&self.description))?;
        }
        match &self.offer {
            Ok(offer) => writeln!(out, "    {offer}")?,
            Err(why) => writeln!(out, "    cannot be opened: {why}")?,
        }
        if !self.also.is_empty() {
            writeln!(out, "    also: {}", self.also.join("  "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rates: Vec<String> = self
            .rates_hz
            .iter()
            .map(|&(low, high)| match high {
                u32::MAX => format!("at least {low}"),
                _ if low == high => low.to_string(),
                _ => format!("{low} to {high}"),
            })
            .collect();
        let channels = match self.channels[..] {
            [first, .., last] if self.channels.len() > 3 => format!("{first} to {last}"),
            _ => self.channels.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
        };
        let unit = if channels == "1" { "channel" } else { "channels" };
        write!(out, "{} Hz; {channels} {unit}", rates.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_shows_the_id_to_paste_and_the_formats() {
        let entry = DeviceEntry {
            id: "0d8c:013c".into(),
            description: "USB PnP Sound Device".into(),
            also: vec!["1-1.3".into(), "hw:CARD=Device,DEV=0".into()],
            offer: Ok(Offer { rates_hz: vec![(44_100, 44_100), (48_000, 48_000)], channels: vec![1] }),
        };
        let text = "microphone:0d8c:013c\n    USB PnP Sound Device\n    44100, 48000 Hz; 1 channel\n    also: 1-1.3  \
                    hw:CARD=Device,DEV=0\n";
        assert_eq!(entry.to_string(), text);
    }

    #[test]
    fn rates_without_a_highest_one_are_at_least_the_lowest() {
        let offer = Offer { rates_hz: vec![(4_000, u32::MAX)], channels: (1..=64).collect() };
        assert_eq!(offer.to_string(), "at least 4000 Hz; 1 to 64 channels");
    }

    #[test]
    fn entry_that_cannot_be_opened_says_why() {
        let entry =
            DeviceEntry { id: "Mic".into(), description: String::new(), also: vec![], offer: Err("in use".into()) };
        assert_eq!(entry.to_string(), "microphone:Mic\n    cannot be opened: in use\n");
    }

    #[test]
    fn junk_is_shown_only_when_all_is_asked_for() {
        // ALSA's configuration always has `null`, with or without sound cards.
        let names =
            |all| -> Vec<String> { devices(all).unwrap_or_default().into_iter().map(|entry| entry.id).collect() };
        assert!(names(true).iter().any(|name| name == "null"));
        assert!(!names(false).iter().any(|name| name == "null"));
    }
}
