//! A stream of cpal, whose callbacks write to a ring.
//!
//! The audio callback copies into a wait-free ring and counts (`ring`). Its thread asks for real-time scheduling once, on
//! its first callback, and only for a card that is opened directly: cpal's own `realtime` feature needs D-Bus to have any
//! effect on Linux, and behind a name like `default` may be a sound server that real-time threads would wait for. The answer
//! is logged; without it everything works, with more overruns on a busy machine. (systemd grants it with `LimitRTPRIO=`.)
//!
//! Behind a sound server cpal's thread uses more of the processor than at a card, 2 to 20 % of a core: ALSA's device for
//! PulseAudio calls itself ready at the first sample, cpal waits for a whole period, and so it polls in a circle for as long as
//! a period is incomplete. Sleeping in the callback would cure that, and loses samples: the buffer holds two periods.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use cpal::traits::{DeviceTrait, StreamTrait};
use cpal::{Data, Device, ErrorKind, FromSample, I24, SampleFormat, SizedSample, U24};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tracing::info;

use super::negotiate::Choice;
use super::ring::{RingReader, RingWriter, Signals, ring};
use crate::source::interface::SourceFormat;

/// The longest that ALSA waits for samples before cpal looks whether the device is still there.
const POLL_TIMEOUT: Duration = Duration::from_millis(500);

/// A stream that fails again and again without a sample between must not burn the processor until it is closed.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Priority among real-time threads, 1 to 99: low, but before everything that is not real-time.
const REALTIME_PRIORITY: u8 = 10;

/// A stream that runs.
pub(super) struct Started {
    pub(super) stream: cpal::Stream,
    pub(super) format: SourceFormat,
    pub(super) reader: RingReader,
    pub(super) realtime: Arc<Realtime>,
}

/// The answer to the request for real-time scheduling: the audio callback stores it, the capture thread logs it.
#[derive(Debug, Default)]
pub(super) struct Realtime(AtomicU8);

impl Realtime {
    const NO_ANSWER: u8 = 0;
    const GRANTED: u8 = 1;
    const REFUSED: u8 = 2;

    /// Logs the answer once, when there is one.
    pub(super) fn log_answer(&self) {
        match self.0.swap(Self::NO_ANSWER, Ordering::Relaxed) {
            Self::GRANTED => info!(priority = REALTIME_PRIORITY, "audio thread is scheduled in real time"),
            Self::REFUSED => info!("real-time scheduling was refused to the audio thread"),
            _ => {}
        }
    }

    /// Asks for the thread that calls this.
    fn ask(&self) {
        let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        let granted = ThreadPriority::try_from(REALTIME_PRIORITY)
            .is_ok_and(|priority| set_thread_priority_and_policy(thread_native_id(), priority, policy).is_ok());
        self.0.store(if granted { Self::GRANTED } else { Self::REFUSED }, Ordering::Relaxed);
    }
}

/// Starts a stream of a device in a format. `is_card`: the device is a card itself, without a converter before it.
pub(super) fn start(device: &Device, choice: Choice, is_card: bool) -> Result<Started, cpal::Error> {
    let format = SourceFormat { sample_rate_hz: choice.config.sample_rate, channels: choice.config.channels };
    let (writer, reader, signals) = ring(format);
    let realtime = Arc::new(Realtime::default());
    let mut on_audio = audio_callback(choice.format, writer);
    let mut to_ask = is_card.then(|| Arc::clone(&realtime));
    let stream = device.build_input_stream_raw(
        choice.config,
        choice.format,
        move |data, _| {
            if let Some(realtime) = to_ask.take() {
                realtime.ask();
            }
            on_audio(data);
        },
        error_callback(signals),
        Some(POLL_TIMEOUT),
    )?;
    stream.play()?;
    Ok(Started { stream, format, reader, realtime })
}

/// The callback for a sample format: it copies, as `f32` of full scale 1.
fn audio_callback(format: SampleFormat, mut writer: RingWriter) -> Box<dyn FnMut(&Data) + Send> {
    fn copy<T: SizedSample>(mut writer: RingWriter) -> Box<dyn FnMut(&Data) + Send>
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::interface::Read;

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
            let realtime = Realtime::default();
            realtime.ask();
            let policy = thread_priority::thread_schedule_policy().unwrap();
            let is_realtime = policy == ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
            let expected = if is_realtime { Realtime::GRANTED } else { Realtime::REFUSED };
            assert_eq!(realtime.0.load(Ordering::Relaxed), expected);
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
