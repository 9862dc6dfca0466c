//! The wait-free way from the audio callback to the capture thread.
//!
//! The callback owns the [`RingWriter`]: it copies samples, counts, and wakes the reader, and does nothing that could wait or
//! allocate. The capture thread owns the [`RingReader`]. Losses travel beside the samples as marks that say where they happened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::source::interface::{Read, SourceFormat};

/// Seconds of audio that the ring holds. When it is full, because the capture thread did not run for so long, the newest
/// samples are dropped and counted, and their place is marked.
const RING_SECONDS: usize = 2;

/// Losses that may wait to be read. When they are more, samples are dropped too until a mark has room again.
const RING_MARKS: usize = 64;

/// A place where samples were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// Samples a channel that were written before it.
    at: u64,
    /// Samples a channel that were lost; 0: unknown.
    lost: u64,
}

/// What callbacks tell the capture thread besides samples.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Overruns that the device reported.
    xruns: AtomicU64,
    /// Samples a channel that were written to the ring.
    written: AtomicU64,
    failed: AtomicBool,
    /// Why it failed. Never touched by the audio callback.
    failure: Mutex<Option<String>>,
    reader: OnceLock<Thread>,
}

impl Signals {
    /// The device reported an overrun; called between two audio callbacks.
    pub(super) fn xrun(&self) {
        self.xruns.fetch_add(1, Ordering::Release);
    }

    /// The stream is of no use any more. The first reason is kept.
    pub(super) fn fail(&self, why: impl FnOnce() -> String) {
        if !self.failed.load(Ordering::Acquire) {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why());
            self.failed.store(true, Ordering::Release);
        }
        self.wake();
    }

    /// Samples a channel that were written to the ring so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        // Wakes by an atomic swap and, if the reader sleeps, one futex call that does not wait.
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }
}

/// Both ends of a ring for audio of this format.
pub(super) fn ring(format: SourceFormat) -> (RingWriter, RingReader, Arc<Signals>) {
    ring_of(format, RING_SECONDS * format.sample_rate_hz as usize)
}

fn ring_of(format: SourceFormat, capacity: usize) -> (RingWriter, RingReader, Arc<Signals>) {
    let channels = usize::from(format.channels);
    let (samples_in, samples_out) = RingBuffer::new(capacity * channels);
    let (marks_in, marks_out) = RingBuffer::new(RING_MARKS);
    let signals = Arc::new(Signals::default());
    let writer = RingWriter {
        samples: samples_in,
        marks: marks_in,
        signals: Arc::clone(&signals),
        channels,
        written: 0,
        dropped: 0,
        seen_xruns: 0,
    };
    let reader = RingReader {
        samples: samples_out,
        marks: marks_out,
        signals: Arc::clone(&signals),
        channels,
        read: 0,
        loss: None,
    };
    (writer, reader, signals)
}

/// The callback's end.
pub(super) struct RingWriter {
    samples: Producer<f32>,
    marks: Producer<Mark>,
    signals: Arc<Signals>,
    channels: usize,
    /// Samples a channel written so far.
    written: u64,
    /// Samples a channel dropped since the last mark.
    dropped: u64,
    seen_xruns: u64,
}

impl RingWriter {
    /// Takes what the device delivered, interleaved. What does not fit is dropped, counted and marked.
    pub(super) fn write<T: Copy>(&mut self, data: &[T], to_f32: impl Fn(T) -> f32) {
        let xruns = self.signals.xruns.load(Ordering::Acquire);
        if xruns != self.seen_xruns && self.marks.push(Mark { at: self.written, lost: 0 }).is_ok() {
            self.seen_xruns = xruns;
        }
        let room = self.samples.slots().min(data.len()) / self.channels * self.channels;
        let may_write =
            self.dropped == 0 || room == 0 || self.marks.push(Mark { at: self.written, lost: self.dropped }).is_ok();
        let fits = if may_write { room } else { 0 };
        if fits > 0 {
            self.dropped = 0;
            if let Ok(chunk) = self.samples.write_chunk_uninit(fits) {
                chunk.fill_from_iter(data[..fits].iter().map(|&sample| to_f32(sample)));
            }
            self.written += (fits / self.channels) as u64;
            self.signals.written.store(self.written, Ordering::Relaxed);
        }
        self.dropped += ((data.len() - fits) / self.channels) as u64;
        self.signals.wake();
    }
}

/// The capture thread's end.
pub(super) struct RingReader {
    samples: Consumer<f32>,
    marks: Consumer<Mark>,
    signals: Arc<Signals>,
    channels: usize,
    /// Samples a channel read so far.
    read: u64,
    /// A loss that lies before the next sample.
    loss: Option<u64>,
}

impl RingReader {
    /// As [`crate::source::Source::read`]; the error is the reason of the first [`Signals::fail`]. What came before the failure
    /// is read first.
    pub(super) fn read(&mut self, out: &mut Vec<f32>, max_wait: Duration) -> Result<Read, String> {
        self.signals.reader.get_or_init(thread::current);
        let deadline = Instant::now() + max_wait;
        loop {
            let failed = self.signals.failed.load(Ordering::Acquire);
            if let Some(read) = self.drain(out) {
                return Ok(read);
            }
            if failed {
                let failure = self.signals.failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
                return Err(failure.unwrap_or_default());
            }
            if self.samples.is_abandoned() && self.samples.is_empty() {
                return Err("the audio stream has ended".into());
            }
            let Some(wait) = deadline.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero()) else {
                return Ok(Read::Nothing);
            };
            thread::park_timeout(wait);
        }
    }

    /// Takes what is there, up to the next mark.
    fn drain(&mut self, out: &mut Vec<f32>) -> Option<Read> {
        // The samples first: a mark that belongs before one of them is then visible too.
        let there = (self.samples.slots() / self.channels) as u64;
        let mut take = there;
        while let Ok(&mark) = self.marks.peek() {
            if mark.at > self.read {
                take = take.min(mark.at - self.read);
                break;
            }
            // Two losses in one place: known only if both are.
            self.loss = Some(match self.loss {
                None => mark.lost,
                Some(0) => 0,
                Some(_) if mark.lost == 0 => 0,
                Some(before) => before + mark.lost,
            });
            // It was there a line ago, and nobody else takes any.
            let _ = self.marks.pop();
        }
        if take == 0 {
            return None;
        }
        let chunk = self.samples.read_chunk(take as usize * self.channels).ok()?;
        let (first, second) = chunk.as_slices();
        out.extend_from_slice(first);
        out.extend_from_slice(second);
        chunk.commit_all();
        self.read += take;
        Some(match self.loss.take() {
            None => Read::Samples,
            Some(lost_samples) => Read::Overrun { lost_samples },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEREO: SourceFormat = SourceFormat { sample_rate_hz: 48_000, channels: 2 };
    const NOW: Duration = Duration::ZERO;

    /// Sample groups `from..to`, each sample telling its group and channel.
    fn groups(from: u32, to: u32) -> Vec<f32> {
        (from..to).flat_map(|group| [group as f32, group as f32 + 0.5]).collect()
    }

    fn read(reader: &mut RingReader) -> (Read, Vec<f32>) {
        let mut out = Vec::new();
        let read = reader.read(&mut out, NOW).unwrap();
        (read, out)
    }

    #[test]
    fn samples_come_out_as_they_went_in() {
        let (mut writer, mut reader, _) = ring_of(STEREO, 100);
        for round in 0..10 {
            writer.write(&groups(round * 30, round * 30 + 30), |sample| sample);
            assert_eq!(read(&mut reader), (Read::Samples, groups(round * 30, round * 30 + 30)));
        }
        assert_eq!(read(&mut reader), (Read::Nothing, vec![]));
    }

    #[test]
    fn full_ring_drops_the_newest_and_counts_and_marks_them() {
        let (mut writer, mut reader, _) = ring_of(STEREO, 100);
        writer.write(&groups(0, 70), |sample| sample);
        writer.write(&groups(70, 140), |sample| sample);
        writer.write(&groups(140, 150), |sample| sample);
        assert_eq!(read(&mut reader), (Read::Samples, groups(0, 100)));
        writer.write(&groups(150, 160), |sample| sample);
        writer.write(&groups(160, 170), |sample| sample);
        assert_eq!(read(&mut reader), (Read::Overrun { lost_samples: 50 }, groups(150, 170)));
        assert_eq!(read(&mut reader), (Read::Nothing, vec![]));
    }

    #[test]
    fn xrun_is_found_between_the_samples_it_lies_between() {
        let (mut writer, mut reader, signals) = ring_of(STEREO, 100);
        writer.write(&groups(0, 10), |sample| sample);
        signals.xrun();
        signals.xrun();
        writer.write(&groups(10, 20), |sample| sample);
        writer.write(&groups(20, 30), |sample| sample);
        assert_eq!(read(&mut reader), (Read::Samples, groups(0, 10)));
        assert_eq!(read(&mut reader), (Read::Overrun { lost_samples: 0 }, groups(10, 30)));
    }

    #[test]
    fn xrun_and_full_ring_in_one_place_are_of_unknown_length() {
        let (mut writer, mut reader, signals) = ring_of(STEREO, 10);
        writer.write(&groups(0, 15), |sample| sample);
        assert_eq!(read(&mut reader), (Read::Samples, groups(0, 10)));
        signals.xrun();
        writer.write(&groups(15, 20), |sample| sample);
        assert_eq!(read(&mut reader), (Read::Overrun { lost_samples: 0 }, groups(15, 20)));
    }

    #[test]
    fn more_losses_than_marks_drop_samples_but_lose_no_count() {
        let (mut writer, mut reader, _) = ring_of(STEREO, 10);
        let mut sent = 0_u64;
        let mut got = 0_u64;
        let mut lost = 0_u64;
        for _ in 0..3 * RING_MARKS as u32 {
            writer.write(&groups(0, 13), |sample| sample);
            sent += 13;
            // Takes one sample group out, so that each round writes one and loses a few.
            if let Ok(chunk) = reader.samples.read_chunk(2) {
                chunk.commit_all();
                reader.read += 1;
                got += 1;
            }
        }
        loop {
            let (read, out) = read(&mut reader);
            got += out.len() as u64 / 2;
            match read {
                Read::Overrun { lost_samples } => lost += lost_samples,
                Read::Nothing => break,
                _ => {}
            }
        }
        // What was lost since is told with the next sample.
        writer.write(&groups(0, 1), |sample| sample);
        let Read::Overrun { lost_samples } = read(&mut reader).0 else { panic!("the last loss was not marked") };
        assert_eq!(sent, got + lost + lost_samples);
    }

    #[test]
    fn failure_is_told_after_the_samples_before_it_and_keeps_the_first_reason() {
        let (mut writer, mut reader, signals) = ring_of(STEREO, 100);
        writer.write(&groups(0, 5), |sample| sample);
        signals.fail(|| "unplugged".into());
        signals.fail(|| "again".into());
        assert_eq!(read(&mut reader), (Read::Samples, groups(0, 5)));
        assert_eq!(reader.read(&mut Vec::new(), NOW), Err("unplugged".into()));
    }

    #[test]
    fn waiting_reader_is_woken_by_samples_and_by_failure() {
        let generous = Duration::from_secs(60);
        let (mut writer, mut reader, signals) = ring_of(STEREO, 100);
        let waiting = thread::spawn(move || {
            let mut out = Vec::new();
            let first = reader.read(&mut out, generous);
            (first, out, reader.read(&mut Vec::new(), generous))
        });
        writer.write(&groups(0, 5), |sample| sample);
        signals.fail(|| "unplugged".into());
        let (first, out, second) = waiting.join().unwrap();
        assert_eq!((first, out, second), (Ok(Read::Samples), groups(0, 5), Err("unplugged".into())));
    }

    #[test]
    fn callback_that_is_gone_is_an_error_not_silence() {
        let (writer, mut reader, _) = ring_of(STEREO, 100);
        drop(writer);
        assert!(reader.read(&mut Vec::new(), NOW).is_err());
    }
}
