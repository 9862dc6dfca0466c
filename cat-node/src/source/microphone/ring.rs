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
mod tests;
