//! A stream of cpal. Its callbacks write to a ring.
//!
//! The audio callback copies into a wait-free ring and counts ([`ring`](super::ring)). On its first call, its thread
//! asks for real-time scheduling, but only for a card that is opened directly: a name like `default` may belong to a
//! sound server, which real-time threads would wait for. (cpal's own `realtime` feature has no effect on Linux without
//! D-Bus.) The answer is logged. If it is no, everything works, with more overruns on a busy machine. systemd grants it
//! with `LimitRTPRIO=`.

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

/// How long ALSA waits for samples before cpal checks whether the device is still there.
const POLL_TIMEOUT: Duration = Duration::from_millis(500);

/// Pause after an error that follows another one without a sample between them. Without it, a stream that fails all the
/// time would take a whole core until it is closed.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Priority among real-time threads, 1 to 99: low, but still above every thread that is not real-time.
const REALTIME_PRIORITY: u8 = 10;

/// A running stream.
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

    /// Logs the answer, once.
    pub(super) fn log_answer(&self) {
        match self.0.swap(Self::NO_ANSWER, Ordering::Relaxed) {
            Self::GRANTED => info!(priority = REALTIME_PRIORITY, "the audio thread has real-time scheduling"),
            Self::REFUSED => info!("the audio thread has no real-time scheduling: the system refused it"),
            _ => {}
        }
    }

    /// Asks for real-time scheduling of the calling thread.
    fn ask(&self) {
        let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
        let granted = ThreadPriority::try_from(REALTIME_PRIORITY)
            .is_ok_and(|priority| set_thread_priority_and_policy(thread_native_id(), priority, policy).is_ok());
        self.0.store(if granted { Self::GRANTED } else { Self::REFUSED }, Ordering::Relaxed);
    }
}

/// Starts a stream in the chosen format. `is_card`: the device is a card, opened without a converter.
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

/// The audio callback for a sample format. It copies the samples as `f32`, with a full scale of 1.
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
        // F32: no other format is ever chosen.
        _ => Box::new(move |data| {
            if let Some(samples) = data.as_slice::<f32>() {
                writer.write(samples, |sample| sample);
            }
        }),
    }
}

/// The error callback. It runs on the thread of the audio callback, never at the same time. An overrun is counted; any
/// other error ends the stream. Errors without end are slowed down until the stream is dropped.
fn error_callback(signals: Arc<Signals>) -> impl FnMut(cpal::Error) + Send {
    let mut written_at_last = None;
    move |error| {
        // Makes ALSA write this thread's messages to a buffer instead of standard error. A new buffer each time keeps
        // it small.
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
    fn answer_about_real_time_is_true() {
        // The machine grants or refuses it. The answer must agree.
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
