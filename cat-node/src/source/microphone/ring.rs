//! The wait-free ring between the audio callback and the capture thread.
//!
//! The callback owns the [`RingWriter`], which copies samples, counts, and wakes the reader. Nothing in it can wait or
//! allocate. The capture thread owns the [`RingReader`]. Losses travel next to the samples, as marks that say where
//! samples are missing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::source::interface::{Read, SourceFormat};

/// Seconds of audio that the ring holds. It is full when the capture thread has not run for so long. The newest samples
/// are then dropped and counted, and their place is marked.
const RING_SECONDS: usize = 2;

/// How many marks may wait to be read. When there are more losses, samples are dropped until there is room for a mark.
const RING_MARKS: usize = 64;

/// A place where samples were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// Samples per channel that were written before it.
    at: u64,
    /// Samples per channel that were lost. 0: unknown.
    lost: u64,
}

/// What the callbacks report to the capture thread besides samples.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Overruns that the device reported.
    xruns: AtomicU64,
    /// Samples per channel that were written to the ring.
    written: AtomicU64,
    failed: AtomicBool,
    /// Why the stream failed. The audio callback never locks this.
    failure: Mutex<Option<String>>,
    reader: OnceLock<Thread>,
}

impl Signals {
    /// The device reported an overrun. Called between two audio callbacks.
    pub(super) fn xrun(&self) {
        self.xruns.fetch_add(1, Ordering::Release);
    }

    /// The stream has failed. The first reason is kept.
    pub(super) fn fail(&self, why: impl FnOnce() -> String) {
        if !self.failed.load(Ordering::Acquire) {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why());
            self.failed.store(true, Ordering::Release);
        }
        self.wake();
    }

    /// Samples per channel that were written to the ring so far.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        // An atomic swap and, if the reader sleeps, one futex call that does not wait.
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }
}

/// Creates a ring for audio of this format.
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

/// The callback's end of the ring.
pub(super) struct RingWriter {
    samples: Producer<f32>,
    marks: Producer<Mark>,
    signals: Arc<Signals>,
    channels: usize,
    /// Samples per channel written so far.
    written: u64,
    /// Samples per channel dropped since the last mark.
    dropped: u64,
    seen_xruns: u64,
}

impl RingWriter {
    /// Writes interleaved samples from the device. Samples that do not fit are dropped, counted and marked.
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

/// The capture thread's end of the ring.
pub(super) struct RingReader {
    samples: Consumer<f32>,
    marks: Consumer<Mark>,
    signals: Arc<Signals>,
    channels: usize,
    /// Samples per channel read so far.
    read: u64,
    /// The loss before the next sample. 0: unknown.
    loss: Option<u64>,
}

impl RingReader {
    /// As [`Source::read`](crate::source::Source::read). The error is the reason of the first [`Signals::fail`].
    /// Samples from before the failure are read first.
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

    /// Reads the samples in the ring, up to the next mark.
    fn drain(&mut self, out: &mut Vec<f32>) -> Option<Read> {
        // Samples are counted before marks are read, so that the marks before these samples are visible.
        let there = (self.samples.slots() / self.channels) as u64;
        let mut take = there;
        while let Ok(&mark) = self.marks.peek() {
            if mark.at > self.read {
                take = take.min(mark.at - self.read);
                break;
            }
            // Two losses in one place add up if both are known.
            self.loss = Some(match self.loss {
                None => mark.lost,
                Some(0) => 0,
                Some(_) if mark.lost == 0 => 0,
                Some(before) => before + mark.lost,
            });
            // The mark that was peeked at. Nobody else reads marks.
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
mod tests;
