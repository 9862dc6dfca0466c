//! The microphone: ALSA through cpal.
//!
//! A stream is opened and dropped on a thread of its own (a keeper), because neither comes back for sure: dropping the
//! stream of a sound server that was killed hangs for ever when it used shared memory. Such a thread is left behind; after
//! eight of them nothing is opened any more and [`SourceError::Stuck`] says that only a new process helps.
//!
//! The audio callback copies into a wait-free ring and counts (`ring`). Its thread asks for real-time scheduling once, on
//! its first callback, and only for a card that is opened directly: cpal's own `realtime` feature needs D-Bus to have any
//! effect on Linux, and behind a name like `default` may be a sound server that real-time threads would wait for. The answer
//! is logged; without it everything works, with more overruns on a busy machine. (systemd grants it with `LimitRTPRIO=`.)
//!
//! Behind a sound server cpal's thread uses more of the processor than at a card, 2 to 20 % of a core: ALSA's device for
//! PulseAudio calls itself ready at the first sample, cpal waits for a whole period, and so it polls in a circle for as long as
//! a period is incomplete. Sleeping in the callback would cure that, and loses samples: the buffer holds two periods.

mod cards;
mod devices;
mod keeper;
mod negotiate;
mod ring;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{Data, Device, ErrorKind, FromSample, I24, SampleFormat, SizedSample, U24};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tracing::{debug, info};

use crate::source::{Read, Source, SourceError, SourceFormat};
use cards::{Card, Meaning};
pub use devices::{DeviceEntry, devices};
use keeper::{Abandoned, KeepError, Keeper, keep};
use negotiate::{Choice, choices};
use ring::{Reader, Signals, Writer, ring};

/// How long opening may take. A healthy device takes some tens of milliseconds, a sound server that starts up a second.
const OPEN_DEADLINE: Duration = Duration::from_secs(4);

/// How long closing may take before its thread is left behind. A healthy device takes a period.
const CLOSE_DEADLINE: Duration = Duration::from_millis(500);

/// Threads that may hang in the sound system at a time. Each costs a stack and what the sound library holds. When it is
/// reached, the source is [`SourceError::Stuck`] until one comes back.
const MOST_ABANDONED: isize = 8;
static ABANDONED: Abandoned = Abandoned::new(0);

/// The longest that ALSA waits for samples before cpal looks whether the device is still there.
const POLL_TIMEOUT: Duration = Duration::from_millis(500);

/// A stream that fails again and again without a sample between must not burn the processor until it is closed.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Priority among real-time threads, 1 to 99: low, but before everything that is not real-time.
const REALTIME_PRIORITY: u8 = 10;

const REALTIME_UNASKED: u8 = 0;
const REALTIME_GRANTED: u8 = 1;
const REALTIME_REFUSED: u8 = 2;

/// What every user can do about a microphone that is not found.
const ADVICE: &str = "plug in a microphone, see `cat-node devices` and `arecord -l`; the user that runs cat-node must be in \
                      the group audio (or have SupplementaryGroups=audio in the systemd unit)";

/// Checks an id before anything is opened.
///
/// # Errors
/// One sentence about what is wrong with it.
pub fn check_id(id: &str) -> Result<(), String> {
    if id.trim().is_empty() {
        return Err("the id of the microphone is empty".into());
    }
    if id.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "{id} is the number of a card, and numbers change from boot to boot; give an id that `cat-node devices` lists"
        ));
    }
    Ok(())
}

/// Opens the microphone that an id means; `None`: the system's default. An id is one of
///
/// - the short id or the name of a card: `Mic`, `USB PnP Sound Device`,
/// - vendor and product of a USB device, and its serial number if it matters: `0d8c:013c`, `046d:0825:5B97E0A0`,
/// - a USB port: `usb-0000:01:00.0-1.3` or `1-1.3`,
/// - the name of any ALSA device: `default`, `pulse`, `hw:CARD=Mic,DEV=0`, `plughw:CARD=Mic`.
///
/// The card is looked up anew each time, whatever its number is by now.
///
/// # Errors
/// [`SourceError::Fatal`] when [`check_id`] refuses the id, [`SourceError::Stuck`] when too many threads hang in the sound
/// system, else [`SourceError::Reopen`].
pub fn open(id: Option<&str>) -> Result<Box<dyn Source>, SourceError> {
    let id = id.unwrap_or(DEFAULT_DEVICE).to_owned();
    check_id(&id).map_err(SourceError::Fatal)?;
    if ABANDONED.load(Ordering::Acquire) >= MOST_ABANDONED {
        let why =
            format!("{MOST_ABANDONED} threads hang in the sound system, nothing more is opened; restart cat-node");
        return Err(SourceError::Stuck(why));
    }
    let (opened, keeper) = keep("microphone", &ABANDONED, OPEN_DEADLINE, CLOSE_DEADLINE, move || open_here(&id))
        .map_err(|error| {
            SourceError::Reopen(match error {
                KeepError::Open(why) => why,
                KeepError::TimedOut => format!("opening the microphone hangs for {} s", OPEN_DEADLINE.as_secs()),
                KeepError::Thread(why) => format!("opening the microphone failed: {why}"),
            })
        })?;
    let Opened { reader, realtime, format, device } = opened;
    Ok(Box::new(Microphone { reader, realtime, format, device, _keeper: keeper }))
}

const DEFAULT_DEVICE: &str = "default";

struct Microphone {
    reader: Reader,
    realtime: Arc<AtomicU8>,
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
        match self.realtime.swap(REALTIME_UNASKED, Ordering::Relaxed) {
            REALTIME_GRANTED => info!(priority = REALTIME_PRIORITY, "audio thread is scheduled in real time"),
            REALTIME_REFUSED => info!("real-time scheduling was refused to the audio thread"),
            _ => {}
        }
        self.reader.read(samples, max_wait).map_err(SourceError::Reopen)
    }
}

/// What the keeper's thread hands out. The stream itself stays there.
struct Opened {
    reader: Reader,
    realtime: Arc<AtomicU8>,
    format: SourceFormat,
    device: String,
}

/// Opens the device on this thread. Errors are sentences for the user.
fn open_here(id: &str) -> Result<(Opened, cpal::Stream), String> {
    let chatter = alsa::Output::local_error_handler().ok();
    let opened = try_candidates(id);
    if let (Err(_), Some(chatter)) = (&opened, &chatter) {
        debug!(id, alsa = %chatter.borrow(), "what ALSA said");
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

/// ALSA's names for the capture devices of a card: direct ones first, then those with a converter for what cpal does not know
/// (packed 24 bits).
fn card_devices(card: &Card) -> Vec<String> {
    let names = |plugin: &'static str| {
        card.capture_devices.iter().map(move |device| format!("{plugin}:CARD={},DEV={device}", card.index))
    };
    names("hw").chain(names("plughw")).collect()
}

/// The device of an ALSA name. cpal opens only what it lists: `default`, what ALSA's configuration shows, and every card by
/// number.
fn find(host: &cpal::Host, name: &str) -> Option<Device> {
    if name == DEFAULT_DEVICE {
        return host.default_input_device();
    }
    let id = cpal::DeviceId::new(cpal::HostId::Alsa, by_number(name));
    host.device_by_id(&id).or_else(|| host.device_by_id(&cpal::DeviceId::new(cpal::HostId::Alsa, name)))
}

/// `hw:CARD=Mic,DEV=0` with the card's number at the moment: such a name is listed for every card.
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

fn not_found(id: &str, cards: &[Card]) -> String {
    let there: BTreeSet<&str> = cards.iter().map(|card| cards::stable_id(card, cards)).collect();
    if there.is_empty() {
        return format!("no capture device called {id} found; {ADVICE}");
    }
    let there: Vec<&str> = there.into_iter().collect();
    format!("no capture device called {id} found; there are: {}; {ADVICE}", there.join(", "))
}

/// An error of cpal as a sentence that says what to do.
fn explain(id: &str, error: &cpal::Error) -> String {
    match error.kind() {
        ErrorKind::DeviceNotAvailable | ErrorKind::HostUnavailable | ErrorKind::UnsupportedOperation => {
            format!("no capture device found as {id}; {ADVICE}")
        }
        ErrorKind::PermissionDenied => format!("{id} may not be opened by this user; {ADVICE}"),
        ErrorKind::DeviceBusy => format!("{id} is in use by another program; stop it, or share through a sound server"),
        _ => format!("{id} cannot be opened: {error}"),
    }
}

/// Opens a device in the best format that works.
fn open_device(device: &Device, is_card: bool, id: &str) -> Result<(Opened, cpal::Stream), cpal::Error> {
    let offered: Vec<_> = device.supported_input_configs()?.collect();
    let mut last_error = cpal::Error::new(ErrorKind::UnsupportedConfig);
    for choice in choices(&offered, is_card) {
        match start(device, choice, is_card) {
            Ok((reader, realtime, stream)) => {
                let format =
                    SourceFormat { sample_rate_hz: choice.config.sample_rate, channels: choice.config.channels };
                debug!(id, ?choice, "stream opened");
                return Ok((Opened { reader, realtime, format, device: id.to_owned() }, stream));
            }
            Err(error) if error.kind() == ErrorKind::UnsupportedConfig => last_error = error,
            Err(error) => return Err(error),
        }
    }
    Err(last_error)
}

fn start(device: &Device, choice: Choice, is_card: bool) -> Result<(Reader, Arc<AtomicU8>, cpal::Stream), cpal::Error> {
    let format = SourceFormat { sample_rate_hz: choice.config.sample_rate, channels: choice.config.channels };
    let (writer, reader, signals) = ring(format);
    let realtime = Arc::new(AtomicU8::new(REALTIME_UNASKED));
    let mut on_audio = audio_callback(choice.format, writer);
    let mut to_ask = is_card.then(|| Arc::clone(&realtime));
    let stream = device.build_input_stream_raw(
        choice.config,
        choice.format,
        move |data, _| {
            if let Some(answer) = to_ask.take() {
                ask_for_realtime(&answer);
            }
            on_audio(data);
        },
        error_callback(signals),
        Some(POLL_TIMEOUT),
    )?;
    stream.play()?;
    Ok((reader, realtime, stream))
}

/// The callback for a sample format: it copies, as `f32` of full scale 1.
fn audio_callback(format: SampleFormat, mut writer: Writer) -> Box<dyn FnMut(&Data) + Send> {
    fn copy<T: SizedSample>(mut writer: Writer) -> Box<dyn FnMut(&Data) + Send>
    where
        f32: FromSample<T>,
    {
        Box::new(move |data| {
            if let Some(samples) = data.as_slice::<T>() {
                writer.write(samples, f32::from_sample_);
            }
        })
    }
    match format {
        SampleFormat::I8 => copy::<i8>(writer),
        SampleFormat::I16 => copy::<i16>(writer),
        SampleFormat::I24 => copy::<I24>(writer),
        SampleFormat::I32 => copy::<i32>(writer),
        SampleFormat::U8 => copy::<u8>(writer),
        SampleFormat::U16 => copy::<u16>(writer),
        SampleFormat::U24 => copy::<U24>(writer),
        SampleFormat::U32 => copy::<u32>(writer),
        SampleFormat::F64 => copy::<f64>(writer),
        // Nothing else is ever chosen.
        _ => Box::new(move |data| {
            if let Some(samples) = data.as_slice::<f32>() {
                writer.write(samples, |sample| sample);
            }
        }),
    }
}

/// The callback for errors, on the same thread as the audio callback and never at the same time. The first error but an
/// overrun ends the stream; a flood of them is slowed down until the stream is dropped.
fn error_callback(signals: Arc<Signals>) -> impl FnMut(cpal::Error) + Send {
    let mut written_at_last = None;
    move |error| {
        // ALSA writes its own errors of this thread to a buffer instead of standard error; a new one each time keeps it small.
        let _ = alsa::Output::local_error_handler();
        match error.kind() {
            ErrorKind::Xrun => signals.xrun(),
            ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
            ErrorKind::DeviceNotAvailable => {
                signals.fail(|| "the microphone was unplugged or its sound server is gone".into());
            }
            _ => signals.fail(|| format!("the audio stream failed: {error}")),
        }
        let written = signals.written();
        if written_at_last.replace(written) == Some(written) {
            std::thread::sleep(ERROR_PAUSE);
        }
    }
}

fn ask_for_realtime(answer: &AtomicU8) {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let granted = ThreadPriority::try_from(REALTIME_PRIORITY)
        .is_ok_and(|priority| set_thread_priority_and_policy(thread_native_id(), priority, policy).is_ok());
    answer.store(if granted { REALTIME_GRANTED } else { REALTIME_REFUSED }, Ordering::Relaxed);
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
        assert!(check_id(" ").is_err());
    }

    #[test]
    fn ids_of_all_kinds_are_accepted() {
        for id in ["default", "Mic", "0d8c:013c", "1-1.3", "hw:CARD=Mic,DEV=0", "USB PnP Sound Device"] {
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

    #[test]
    fn card_is_tried_directly_before_its_converter() {
        let card = Card { index: 2, capture_devices: vec![0, 1], ..Card::default() };
        let names = ["hw:CARD=2,DEV=0", "hw:CARD=2,DEV=1", "plughw:CARD=2,DEV=0", "plughw:CARD=2,DEV=1"];
        assert_eq!(card_devices(&card), names);
    }

    #[test]
    fn every_format_that_may_be_chosen_is_copied_at_full_scale() {
        let format = SourceFormat { sample_rate_hz: 16_000, channels: 1 };
        let (mut writer, mut reader, _) = ring(format);
        writer.write(&[i16::MIN, 0, i16::MAX], f32::from_sample_);
        writer.write(&[i32::MIN, 0], f32::from_sample_);
        writer.write(&[0_u16, 32_768], f32::from_sample_);
        let mut out = Vec::new();
        reader.read(&mut out, Duration::ZERO).unwrap();
        assert_eq!(out, [-1.0, 0.0, 32_767.0 / 32_768.0, -1.0, 0.0, -1.0, 0.0]);
    }

    #[test]
    fn real_time_is_granted_or_refused_and_said_as_it_is() {
        // The machine decides; what is said must be what is.
        std::thread::spawn(|| {
            let answer = AtomicU8::new(REALTIME_UNASKED);
            ask_for_realtime(&answer);
            let policy = thread_priority::thread_schedule_policy().unwrap();
            let is_realtime = policy == ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
            let expected = if is_realtime { REALTIME_GRANTED } else { REALTIME_REFUSED };
            assert_eq!(answer.load(Ordering::Relaxed), expected);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn error_callback_tells_overruns_from_failures() {
        let format = SourceFormat { sample_rate_hz: 16_000, channels: 1 };
        let (mut writer, mut reader, signals) = ring(format);
        let mut on_error = error_callback(signals);
        on_error(ErrorKind::Xrun.into());
        writer.write(&[0.0], |sample: f32| sample);
        assert_eq!(reader.read(&mut Vec::new(), Duration::ZERO), Ok(Read::Overrun { lost_samples: 0 }));
        on_error(ErrorKind::DeviceNotAvailable.into());
        assert!(reader.read(&mut Vec::new(), Duration::ZERO).unwrap_err().contains("unplugged"));
    }
}
