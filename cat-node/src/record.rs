//! `cat-node record`: writes what the node would capture to a WAV file.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{anyhow, bail};
use daemon::cause::without_number;
use daemon::shutdown::CancellationToken;
use proto::{FRAME_SAMPLES, SourceState};
use sound::SAMPLE_RATE_HZ;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::config::NodeSettings;
use crate::own_tape::OwnTape;
use crate::status::Status;
use crate::tape::reader::Reader;
use crate::tape::{Piece, Want};

/// How long the source may deliver nothing before the recording fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same in frames.
const PATIENCE_FRAMES: u64 = PATIENCE.as_secs() * SAMPLE_RATE_HZ as u64 / FRAME_SAMPLES as u64;

/// Ending of a file that is being written, next to the recording.
const PART_ENDING: &str = "part";

/// Records canonical audio (16 kHz, mono, 16 bits) to a WAV file. Audio that is lost becomes zeros. The recording ends
/// after `seconds`, at the end of the source, or at `stop`, and the file is valid in each case. An earlier recording of
/// this name is replaced when the new one is complete, and not before.
///
/// # Errors
/// If the file cannot be written, if there was no audio, or if the source fails. What was recorded until the source
/// failed is kept: under the name of the recording, or next to an earlier recording of that name.
pub async fn record(config: NodeSettings, path: &Path, seconds: u64, stop: CancellationToken) -> anyhow::Result<()> {
    let mut recording = Recording::create(path, seconds)?;
    let OwnTape { reader, status, .. } = &mut OwnTape::start(&config)?;
    if let Err(failure) = fill(&mut recording, reader, status, &stop).await {
        return match recording.keep_beside()? {
            Some(kept) => Err(failure.context(format!("the recording is incomplete and kept in {}", kept.display()))),
            None => Err(failure),
        };
    }
    if !recording.has_audio() {
        let source = status.source();
        if stop.is_cancelled() {
            bail!("stopped before there was audio from {}; nothing is recorded", source.kind);
        }
        bail!("no audio from {}: {}", source.kind, source.detail);
    }
    let Recorded { samples, lost } = recording.finish()?;
    if lost > 0 {
        warn!(samples = lost, "audio was lost, the recording has zeros in its place");
    }
    info!(path = %path.display(), seconds = samples as f64 / f64::from(SAMPLE_RATE_HZ), "recorded");
    Ok(())
}

/// Writes audio until the recording is over.
///
/// # Errors
/// If the file cannot be written, or the source delivers nothing for [`PATIENCE`].
async fn fill(
    recording: &mut Recording,
    reader: &mut Reader,
    status: &Status,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let mut samples = Vec::new();
    // Frames that were lost in a row.
    let mut lost = 0_u64;
    while recording.left > 0 {
        match reader.read(Want::whole(1), &mut samples) {
            Some(Piece::Audio { .. }) => {
                lost = 0;
                recording.write(&samples)?;
            }
            Some(Piece::Gap(gap)) => {
                lost = lost.saturating_add(gap.frame_count);
                if lost > PATIENCE_FRAMES && status.state() == SourceState::NoDevice {
                    return Err(no_audio(status));
                }
                recording.write_zeros(gap.frame_count)?;
            }
            None if wait_for_more(reader, status, stop).await? => {}
            None => break,
        }
    }
    Ok(())
}

fn no_audio(status: &Status) -> anyhow::Error {
    let source = status.source();
    anyhow!("no audio from {} for {} s: {}", source.kind, PATIENCE.as_secs(), source.detail)
}

/// A WAV file that is being written.
struct Recording {
    /// Where the recording will be.
    path: PathBuf,
    /// The file that is written. Equal to `path` if that is no ordinary file, such as `/dev/null`.
    part: PathBuf,
    /// `None` once the file is complete.
    writer: Option<hound::WavWriter<BufWriter<File>>>,
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

impl Recording {
    fn create(path: &Path, seconds: u64) -> anyhow::Result<Self> {
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE_HZ,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        // Through a link, the file that it names is replaced, and not the link.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let is_special = path.metadata().is_ok_and(|about| !about.is_file());
        let part = if is_special { path.clone() } else { part_of(&path) };
        let writer = hound::WavWriter::create(&part, spec).map_err(|error| cannot_write(&path, &error))?;
        let left = seconds.saturating_mul(u64::from(SAMPLE_RATE_HZ));
        Ok(Self { path, part, writer: Some(writer), left, lost: 0 })
    }

    /// Writes samples, but no more than are left.
    fn write(&mut self, samples: &[i16]) -> anyhow::Result<()> {
        let count = self.left.min(samples.len() as u64);
        self.left -= count;
        samples[..count as usize].iter().try_for_each(|sample| self.sample(*sample))
    }

    /// Writes zeros for lost frames, but no more than are left.
    fn write_zeros(&mut self, frames: u64) -> anyhow::Result<()> {
        let count = self.left.min(frames.saturating_mul(FRAME_SAMPLES as u64));
        self.left -= count;
        self.lost += count;
        (0..count).try_for_each(|_| self.sample(0))
    }

    fn sample(&mut self, sample: i16) -> anyhow::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.write_sample(sample).map_err(|error| cannot_write(&self.path, &error))
    }

    fn samples(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| u64::from(writer.len()))
    }

    /// Whether there is anything but zeros in the place of lost audio.
    fn has_audio(&self) -> bool {
        self.samples() > self.lost
    }

    /// Completes the file, and puts it in the place of an earlier recording.
    fn finish(mut self) -> anyhow::Result<Recorded> {
        let recorded = Recorded { samples: self.samples(), lost: self.lost };
        let path = self.path.clone();
        self.complete(&path)?;
        Ok(recorded)
    }

    /// Completes the file of a recording that failed, if it has audio. Returns where it is.
    fn keep_beside(mut self) -> anyhow::Result<Option<PathBuf>> {
        if !self.has_audio() {
            return Ok(None);
        }
        let kept = if self.path.exists() { self.part.clone() } else { self.path.clone() };
        self.complete(&kept)?;
        Ok(Some(kept))
    }

    fn complete(&mut self, to: &Path) -> anyhow::Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let done = writer.finalize().and_then(|()| {
            if self.part != self.path {
                // Only what is on the disk may replace what was there.
                File::open(&self.part)?.sync_all()?;
                std::fs::rename(&self.part, to)?;
            }
            Ok(())
        });
        done.map_err(|error| {
            self.discard();
            cannot_write(&self.path, &error)
        })
    }

    /// Removes the file that is written. If this fails, a file with an unmistakable name is left.
    fn discard(&self) {
        if self.part != self.path {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

impl Drop for Recording {
    /// Removes a file that was not completed.
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            self.discard();
        }
    }
}

/// The name of the file that is written: next to the recording, so that renaming it is one step.
fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.{PART_ENDING}", std::process::id()));
    name.into()
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
        Err(_) => Err(no_audio(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn samples_in(path: &Path) -> u32 {
        hound::WavReader::open(path).unwrap().duration()
    }

    #[test]
    fn earlier_recording_is_replaced_when_the_new_one_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        std::fs::write(&path, "earlier").unwrap();
        let mut recording = Recording::create(&path, 1).unwrap();
        recording.write(&[7; 320]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"earlier");
        assert_eq!(recording.finish().unwrap().samples, 320);
        assert_eq!((names(folder.path()), samples_in(&path)), (vec!["a.wav".to_owned()], 320));
    }

    #[test]
    fn recording_that_fails_is_kept_and_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let failed = |samples: &[i16]| {
            let mut recording = Recording::create(&path, 1).unwrap();
            recording.write(samples).unwrap();
            recording.write_zeros(1).unwrap();
            recording.keep_beside().unwrap()
        };
        assert_eq!((failed(&[]), names(folder.path())), (None, vec![]), "there was no audio");
        assert_eq!(failed(&[7; 320]).unwrap(), path.canonicalize().unwrap());
        assert_eq!(samples_in(&path), 640);
        let kept = failed(&[7; 640]).unwrap();
        assert_eq!((samples_in(&path), samples_in(&kept), names(folder.path()).len()), (640, 960, 2));
    }

    #[test]
    fn recording_that_is_dropped_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        drop(Recording::create(&folder.path().join("a.wav"), 1).unwrap());
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn what_is_no_file_is_not_replaced_by_one() {
        Recording::create(Path::new("/dev/null"), 1).unwrap().finish().unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
