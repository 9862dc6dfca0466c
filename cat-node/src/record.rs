//! `cat-node record`: what the node would hear, as a WAV file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use daemon::shutdown::CancellationToken;
use proto::{FRAME_SAMPLES, SourceState};
use sound::SAMPLE_RATE_HZ;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::capture;
use crate::clock::NodeClock;
use crate::config::Config;
use crate::status::Status;
use crate::tape::reader::Reader;
use crate::tape::{Piece, Tape, Want};

/// How long the source may give nothing before the recording is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tape of a recording, which is read at once: ten seconds.
const TAPE_BYTES: usize = 10 * 2 * SAMPLE_RATE_HZ as usize;

/// Records canonical audio (16 kHz, mono, 16 bits) into a new WAV file; what is lost on the way is zeros in it. Ends after
/// `seconds`, at the end of the source, or at `stop`, and leaves a valid file each time.
///
/// # Errors
/// When the file cannot be written, or the source gives nothing.
pub async fn record(config: Config, path: &Path, seconds: u64, stop: CancellationToken) -> anyhow::Result<()> {
    let naming_path = || path.display().to_string();
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE_HZ,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path, spec).with_context(naming_path)?;
    let tape = Arc::new(Tape::new(NodeClock::start(), TAPE_BYTES));
    let status = Arc::new(Status::new(config.source.kind()));
    let mut reader = Reader::at(&tape, 0);
    let stop_capture = CancellationToken::new();
    let _stop_at_return = stop_capture.clone().drop_guard();
    capture::spawn(config.source, tape, Arc::clone(&status), config.capture, stop_capture)
        .context("the capture thread cannot be started")?;

    let mut left = seconds.saturating_mul(u64::from(SAMPLE_RATE_HZ));
    let mut lost = 0;
    let mut samples = Vec::new();
    while left > 0 {
        let Some(piece) = reader.read(Want::whole(1), &mut samples) else {
            if !wait_for_more(&mut reader, &status, &stop).await? {
                break;
            }
            continue;
        };
        if let Piece::Gap(gap) = piece {
            let count = gap.frame_count.saturating_mul(FRAME_SAMPLES as u64).min(left);
            lost += count;
            left -= count;
            for _ in 0..count {
                writer.write_sample(0_i16).with_context(naming_path)?;
            }
        } else {
            let count = left.min(samples.len() as u64);
            left -= count;
            for &sample in &samples[..count as usize] {
                writer.write_sample(sample).with_context(naming_path)?;
            }
        }
    }
    let recorded = writer.len();
    writer.finalize().with_context(naming_path)?;
    if lost > 0 && lost == u64::from(recorded) {
        let source = status.source();
        bail!("no audio from {}: {}", source.kind, source.detail);
    }
    if lost > 0 {
        warn!(samples = lost, "lost and recorded as zeros");
    }
    info!(path = %path.display(), seconds = f64::from(recorded) / f64::from(SAMPLE_RATE_HZ), "recorded");
    Ok(())
}

/// Whether there is any sense in waiting on.
async fn wait_for_more(reader: &mut Reader, status: &Status, stop: &CancellationToken) -> anyhow::Result<bool> {
    let ended = async {
        // Nothing is written at the end, so the tape does not wake its reader.
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
