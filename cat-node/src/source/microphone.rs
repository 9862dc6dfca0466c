//! The microphone: a sound server ([`pulse`]), or ALSA through cpal.
//!
//! A stream of ALSA is opened and dropped on a thread of its own (a keeper), because both may hang: dropping the stream
//! of a sound server that was killed never returns if the two shared memory. A thread that hangs is abandoned. After
//! eight of them nothing more is opened, and [`SourceError::Stuck`] says that only a restart of the process can help.
//!
//! A sound server is not opened through ALSA's plug-in for it. That device reports that it is ready at the first
//! sample, while cpal waits for a whole period, so cpal polls without pause until the period is complete: 2 to 20 % of
//! a core.

mod cards;
mod devices;
mod keeper;
mod lookup;
mod negotiate;
mod pulse;
mod ring;
mod stream;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cpal::traits::DeviceTrait;
use cpal::{Device, ErrorKind};
use tracing::debug;

use crate::source::interface::{Read, Source, SourceError, SourceFormat};
use cards::Meaning;
pub use devices::{DeviceEntry, devices};
use keeper::{Abandoned, KeepError, Keeper, keep};
use lookup::{ADVICE, BOTH_WAYS, DEFAULT_DEVICE, card_devices, explain, find, not_found};
use negotiate::choices;
use pulse::{NoAudio, PULSE};
use ring::RingReader;
use stream::{Realtime, Started, start};

/// How long opening may take. A device takes some tens of milliseconds, a sound server that is starting a second.
const OPEN_DEADLINE: Duration = Duration::from_secs(4);

/// How long closing may take before its thread is abandoned. A device takes one period.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);

/// How many threads may hang in the sound system at a time. Each costs a stack and what the sound library holds. While
/// this many hang, the source is [`SourceError::Stuck`].
const MOST_ABANDONED: isize = 8;
static ABANDONED: Abandoned = Abandoned::new(0);

/// Checks an id without opening anything.
///
/// # Errors
/// One sentence about what is wrong with it.
pub fn check_id(id: &str) -> Result<(), String> {
    if id.trim().is_empty() {
        return Err("the id of the microphone is empty".into());
    }
    if id.strip_prefix(PULSE) == Some(":") {
        return Err("the name after microphone:pulse: is empty; give one that `cat-node devices` lists".into());
    }
    if id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "{id} is a card number, and card numbers change from boot to boot; give an id that `cat-node devices` lists"
        ));
    }
    Ok(())
}

/// Opens the microphone with this id. `None`: that of the sound server if there is one, otherwise ALSA's default. An id
/// is one of
///
/// - `pulse`, the default of the sound server (PulseAudio or PipeWire), or `pulse:NAME`, one of its other sources,
/// - the short id or the name of a card: `Mic`, `USB PnP Sound Device`,
/// - vendor and product of a USB device, and its serial number if it matters: `0d8c:013c`, `046d:0825:5B97E0A0`,
/// - a USB port: `usb-0000:01:00.0-1.3` or `1-1.3`,
/// - the name of any other ALSA device: `default`, `hw:CARD=Mic,DEV=0`, `plughw:CARD=Mic`.
///
/// Every call looks the card up by its id, because its number may have changed.
///
/// # Errors
/// [`SourceError::Fatal`] if [`check_id`] rejects the id, [`SourceError::Stuck`] if too many threads hang in the sound
/// system, otherwise [`SourceError::Reopen`].
pub fn open(id: Option<&str>) -> Result<Box<dyn Source>, SourceError> {
    if let Some(id) = id {
        check_id(id).map_err(SourceError::Fatal)?;
    }
    match id {
        None => open_default(),
        Some(PULSE) => open_pulse(None)?.map_err(no_audio),
        Some(id) => match id.strip_prefix(PULSE).and_then(|rest| rest.strip_prefix(':')) {
            Some(name) => open_pulse(Some(name))?.map_err(no_audio),
            None => open_alsa(id),
        },
    }
}

/// The sound server's default, or ALSA's where there is no sound server. A server of a session that has left its
/// socket, or that `PULSE_SERVER` names, is waited for: with its card in the node's hands it could not start again.
fn open_default() -> Result<Box<dyn Source>, SourceError> {
    match open_pulse(None)? {
        Err(NoAudio::NoServer | NoAudio::NoMicrophone) => open_alsa(DEFAULT_DEVICE),
        Err(NoAudio::NotOurs(why)) => {
            debug!(%why, "the sound server is not used");
            open_alsa(DEFAULT_DEVICE)
        }
        opened => opened.map_err(no_audio),
    }
}

fn open_pulse(name: Option<&str>) -> Result<Result<Box<dyn Source>, NoAudio>, SourceError> {
    let name = name.map(str::to_owned);
    // On a thread, because looking up the name of a host may take long. The thread ends at once afterwards.
    let opened = on_keeper("sound-server", move || pulse::open(name.as_deref()).map(|pulse| (pulse, ())))?;
    Ok(opened.map(|(pulse, _keeper)| Box::new(pulse) as Box<dyn Source>))
}

fn no_audio(why: NoAudio) -> SourceError {
    SourceError::Reopen(match why {
        NoAudio::NoServer => format!("no sound server found; {BOTH_WAYS}"),
        NoAudio::NoMicrophone => format!("the sound server has no microphone; {ADVICE}"),
        NoAudio::NotOurs(why) | NoAudio::Other(why) => why,
    })
}

fn open_alsa(id: &str) -> Result<Box<dyn Source>, SourceError> {
    let id = id.to_owned();
    let (opened, keeper) = on_keeper("microphone", move || open_here(&id))?.map_err(SourceError::Reopen)?;
    let Opened { reader, realtime, format, device } = opened;
    Ok(Box::new(Microphone { reader, realtime, format, device, _keeper: keeper }))
}

/// Opens something on a thread of its own. The inner error is that of `open`.
fn on_keeper<Info, Kept, E>(
    name: &str,
    open: impl FnOnce() -> Result<(Info, Kept), E> + Send + 'static,
) -> Result<Result<(Info, Keeper), E>, SourceError>
where
    Info: Send + 'static,
    E: Send + 'static,
{
    if ABANDONED.load(Ordering::Acquire) >= MOST_ABANDONED {
        let why =
            format!("{MOST_ABANDONED} threads hang in the sound system, so no microphone is opened; restart cat-node");
        return Err(SourceError::Stuck(why));
    }
    match keep(name, &ABANDONED, OPEN_DEADLINE, CLOSE_DEADLINE, open) {
        Ok(opened) => Ok(Ok(opened)),
        Err(KeepError::Open(error)) => Ok(Err(error)),
        Err(KeepError::TimedOut) => {
            Err(SourceError::Reopen(format!("the microphone did not open within {} s", OPEN_DEADLINE.as_secs())))
        }
        Err(KeepError::Thread(why)) => Err(SourceError::Reopen(format!("the microphone cannot be opened: {why}"))),
    }
}

struct Microphone {
    reader: RingReader,
    realtime: Arc<Realtime>,
    format: SourceFormat,
    device: String,
    _keeper: Keeper,
}

impl Source for Microphone {
    fn format(&self) -> SourceFormat {
        self.format
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn read(&mut self, samples: &mut Vec<f32>, max_wait: Duration) -> Result<Read, SourceError> {
        self.realtime.log_answer();
        self.reader.read(samples, max_wait).map_err(SourceError::Reopen)
    }
}

/// What the keeper's thread returns. The stream itself stays on that thread.
struct Opened {
    reader: RingReader,
    realtime: Arc<Realtime>,
    format: SourceFormat,
    device: String,
}

/// Opens the device on the calling thread. Errors are sentences for the user.
fn open_here(id: &str) -> Result<(Opened, cpal::Stream), String> {
    let messages = alsa::Output::local_error_handler().ok();
    let opened = try_candidates(id);
    if let (Err(_), Some(messages)) = (&opened, &messages) {
        debug!(id, alsa = %messages.borrow(), "messages of ALSA");
    }
    opened
}

fn try_candidates(id: &str) -> Result<(Opened, cpal::Stream), String> {
    let host = cpal::host_from_id(cpal::HostId::Alsa).map_err(|error| format!("{error}; {ADVICE}"))?;
    let cards = cards::cards();
    let (device_id, names) = match cards::resolve(id, &cards) {
        Meaning::Card(card) => (cards::stable_id(&card, &cards).to_owned(), card_devices(&card)),
        Meaning::Other => (id.to_owned(), vec![id.to_owned()]),
    };
    let mut why = None;
    for name in names {
        let Some(device) = find(&host, &name) else { continue };
        let is_card = name.starts_with("hw:");
        match open_device(&device, is_card, &device_id) {
            Ok(opened) => return Ok(opened),
            Err(error) => why = Some(explain(id, &error)),
        }
    }
    Err(why.unwrap_or_else(|| not_found(id, &cards)))
}

/// Opens a device in the best format that works.
fn open_device(device: &Device, is_card: bool, id: &str) -> Result<(Opened, cpal::Stream), cpal::Error> {
    let offered: Vec<_> = device.supported_input_configs()?.collect();
    let mut last_error = cpal::Error::new(ErrorKind::UnsupportedConfig);
    for choice in choices(&offered, is_card) {
        match start(device, choice, is_card) {
            Ok(Started { stream, format, reader, realtime }) => {
                debug!(id, ?choice, "stream opened");
                return Ok((Opened { reader, realtime, format, device: id.to_owned() }, stream));
            }
            Err(error) if error.kind() == ErrorKind::UnsupportedConfig => last_error = error,
            Err(error) => return Err(error),
        }
    }
    Err(last_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_are_refused_with_the_remedy() {
        for id in ["0", "12"] {
            assert!(check_id(id).unwrap_err().contains("cat-node devices"));
            assert!(matches!(open(Some(id)), Err(SourceError::Fatal(_))));
        }
        assert!(check_id(" ").is_err() && check_id("pulse:").is_err());
    }

    #[test]
    fn ids_of_all_kinds_are_accepted() {
        for id in [
            "default",
            "pulse",
            "pulse:room.monitor",
            "Mic",
            "0d8c:013c",
            "1-1.3",
            "hw:CARD=Mic,DEV=0",
            "USB PnP Sound Device",
        ] {
            assert_eq!(check_id(id), Ok(()));
        }
    }

    #[test]
    fn device_that_does_not_exist_is_an_error_that_says_what_to_do() {
        let Err(SourceError::Reopen(why)) = open(Some("hw:CARD=NoSuchCard,DEV=7")) else {
            panic!("a card that cannot exist was opened");
        };
        assert!(why.contains("NoSuchCard") && why.contains("arecord -l") && why.contains("group audio"), "{why}");
    }
}
