//! `cat-node record`: writes what the node would capture to a WAV file.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use daemon::cause::without_number;
use daemon::shutdown::CancellationToken;
use proto::{FRAME_SAMPLES, SourceState};
use sound::SAMPLE_RATE_HZ;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::capture;
use crate::clock::NodeClock;
use crate::config::NodeSettings;
use crate::status::Status;
use crate::tape::reader::Reader;
use crate::tape::{Piece, Tape, Want};

/// How long the source may deliver nothing before the recording fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// Memory of the tape: ten seconds of audio, which is read at once.
const TAPE_BYTES: usize = 10 * 2 * SAMPLE_RATE_HZ as usize;

/// Records canonical audio (16 kHz, mono, 16 bits) to a new WAV file. Audio that is lost becomes zeros. The recording
/// ends after `seconds`, at the end of the source, or at `stop`, and the file is valid in each case.
///
/// # Errors
/// If the file cannot be written, or the source delivers nothing.
pub async fn record(config: NodeSettings, path: &Path, seconds: u64, stop: CancellationToken) -> anyhow::Result<()> {
    let mut recording = Recording::create(path, seconds)?;
    let tape = Arc::new(Tape::new(NodeClock::start(), TAPE_BYTES));
    let status = Arc::new(Status::new(config.source.kind()));
    let mut reader = Reader::at(&tape, 0);
    let stop_capture = CancellationToken::new();
    let _stop_at_return = stop_capture.clone().drop_guard();
    capture::spawn(config.audio_source(), tape, Arc::clone(&status), config.capture(), stop_capture)
        .map_err(|error| anyhow!("cannot start the capture thread: {}", without_number(error)))?;

    let mut samples = Vec::new();
    while recording.left > 0 {
        match reader.read(Want::whole(1), &mut samples) {
            Some(Piece::Audio { .. }) => recording.write(&samples)?,
            Some(Piece::Gap(gap)) => recording.write_zeros(gap.frame_count)?,
            None if wait_for_more(&mut reader, &status, &stop).await? => {}
            None => break,
        }
    }
    let Recorded { samples, lost } = recording.finish()?;
    if lost > 0 && lost == samples {
        let source = status.source();
        bail!("no audio from {}: {}", source.kind, source.detail);
    }
    if lost > 0 {
        warn!(samples = lost, "audio was lost, the recording has zeros in its place");
    }
    info!(path = %path.display(), seconds = samples as f64 / f64::from(SAMPLE_RATE_HZ), "recorded");
    Ok(())
}

/// A WAV file that is being written.
struct Recording<'a> {
    path: &'a Path,
    writer: hound::WavWriter<BufWriter<File>>,
    /// Samples still to be written.
    left: u64,
    /// Zeros written in the place of lost samples.
    lost: u64,
}

/// A finished recording.
struct Recorded {
    samples: u64,
    /// Samples that are zeros because the audio was lost.
    lost: u64,
}

impl<'a> Recording<'a> {
    fn create(path: &'a Path, seconds: u64) -> anyhow::Result<Self> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE_HZ,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        let writer = hound::WavWriter::create(path, spec).map_err(|error| cannot_write(path, &error))?;
        Ok(Self { path, writer, left: seconds.saturating_mul(u64::from(SAMPLE_RATE_HZ)), lost: 0 })
    }

    /// Writes samples, but no more than are left.
    fn write(&mut self, samples: &[i16]) -> anyhow::Result<()> {
        let count = self.left.min(samples.len() as u64);
        self.left -= count;
        for &sample in &samples[..count as usize] {
            self.writer.write_sample(sample).map_err(|error| cannot_write(self.path, &error))?;
        }
        Ok(())
    }

    /// Writes zeros for lost frames, but no more than are left.
    fn write_zeros(&mut self, frames: u64) -> anyhow::Result<()> {
        let count = self.left.min(frames.saturating_mul(FRAME_SAMPLES as u64));
        self.left -= count;
        self.lost += count;
        for _ in 0..count {
            self.writer.write_sample(0_i16).map_err(|error| cannot_write(self.path, &error))?;
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<Recorded> {
        let samples = u64::from(self.writer.len());
        self.writer.finalize().map_err(|error| cannot_write(self.path, &error))?;
        Ok(Recorded { samples, lost: self.lost })
    }
}

fn cannot_write(path: &Path, error: &hound::Error) -> anyhow::Error {
    anyhow!("{}: cannot write the recording: {}", path.display(), without_number(error))
}

/// Waits for more audio. Returns false when the recording is over: the source has ended, or the program is to stop.
///
/// # Errors
/// If the source delivers nothing.
async fn wait_for_more(reader: &mut Reader, status: &Status, stop: &CancellationToken) -> anyhow::Result<bool> {
    let ended = async {
        // The end of the source writes nothing to the tape, so it does not wake the reader.
        while status.state() != SourceState::Ended {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let waited = timeout(PATIENCE, async {
        tokio::select! {
            () = reader.wait() => true,
            () = ended => false,
            () = stop.cancelled() => false,
        }
    });
    match waited.await {
        Ok(more) => Ok(more || reader.behind() > 0 && !stop.is_cancelled()),
        Err(_) => {
            let source = status.source();
            bail!("no audio from {} for {} s: {}", source.kind, PATIENCE.as_secs(), source.detail)
        }
    }
}
