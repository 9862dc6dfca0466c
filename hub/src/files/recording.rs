//! Analyses one recording, in constant memory.

use std::io;
use std::path::Path;

use daemon::cause::cause;
use indicatif::ProgressBar;
use recordings::start::{self, Start};
use recordings::{Balance, Channel, Format, Input, Recording, RecordingError};
use sound::SAMPLE_RATE_HZ;
use sound::analysis::{Analysis, Analyzer, Vocalisation};
use sound::detector::DetectorConfig;
use sound::framer::{Framer, FramerError};
use tokio_util::sync::CancellationToken;

use super::progress::{Share, bytes_of};
use crate::cli::Channels;

/// The path that stands for standard input.
pub(super) const STDIN: &str = "-";

/// Most seconds of silence that are pushed after the end, to get the last sample out of the resampler. Its filter
/// delays by some hundredths of a second.
const MAX_FLUSH_S: u32 = 2;

/// Samples beyond this are reported: the file has floats of another scale than -1 to 1.
const BEYOND_FULL_SCALE: f32 = 2.0;

/// Why a file cannot be analysed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read, or is no supported recording.
    #[error("{}", words(.0))]
    Recording(#[from] RecordingError),
    /// The folder cannot be read.
    #[error("cannot be read: {}", cause(.0))]
    Io(#[from] io::Error),
    /// The sample rate or the number of channels is invalid.
    #[error("{0}")]
    Format(#[from] FramerError),
    /// The folder has no recording.
    #[error("no recording in this folder")]
    EmptyFolder,
    /// The analysis panicked: a bug of this program.
    #[error("the analysis crashed, which is a bug; please report it with this file")]
    Crash,
    /// The user interrupted the analysis.
    #[error("interrupted")]
    Stopped,
}

fn words(error: &RecordingError) -> String {
    match error {
        RecordingError::Io(error) => format!("cannot be read: {}", cause(error)),
        error => error.to_string(),
    }
}

/// How recordings are analysed.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What counts as a cat.
    pub detector: DetectorConfig,
    /// Which channels are analysed. `None`: the mix, or one channel where the mix would hide the cat.
    pub channels: Option<Channels>,
    /// Ends the analysis before its end.
    pub stop: CancellationToken,
    /// Counts the bytes of the files as they are read.
    pub progress: Option<ProgressBar>,
}

/// The result for a recording, or for one of its channels.
#[derive(Debug)]
pub struct Report {
    /// The channel, unless it is the mix of all, or the only one.
    pub channel: Option<Channel>,
    /// The whole recording.
    pub analysis: Analysis,
    /// What was found in it.
    pub heard: Vec<Vocalisation>,
    /// The sample rate of the recording.
    pub sample_rate_hz: u32,
    /// When the recording began.
    pub start: Option<Start>,
    /// What is odd about the recording, in words for people.
    pub warnings: Vec<String>,
}

/// Analyses a recording of any length. There is more than one report only if each channel is analysed.
///
/// # Errors
/// See [`FileError`].
pub fn analyze_file(path: &Path, options: &Options) -> Result<Vec<Report>, FileError> {
    let is_stdin = path == Path::new(STDIN);
    let open =
        || if is_stdin { Ok(Input::stream(io::stdin())) } else { Input::open(path).map_err(RecordingError::from) };
    let name = path.file_name().and_then(|name| name.to_str()).filter(|_| !is_stdin);
    let mut share = Share::new(options.progress.clone(), if is_stdin { 0 } else { bytes_of(path) });
    let (mut reports, balance) = analyze_input(open()?, name, options, |fraction| share.read(fraction))?;
    let is_default = options.channels.is_none();
    if let (Some(fault), [mix]) = (balance.fault(), &mut reports[..])
        && options.channels.is_none_or(|channels| channels == Channels::Only(Channel::Mix))
    {
        let (channel, words) = fault;
        if !is_default || is_stdin {
            mix.warnings.push(format!("{words}; --channel {channel} analyses that channel alone"));
        } else {
            let only = Options { channels: Some(Channels::Only(channel)), ..options.clone() };
            let (alone, _) = analyze_input(open()?, name, &only, |_| ())?;
            let weight = |report: &Report| (report.heard.len(), (report.analysis.cat_score * 1e6) as u64);
            if let Some(alone) = alone.into_iter().next().filter(|alone| weight(alone) > weight(mix)) {
                *mix = alone;
                mix.warnings.push(format!("{words}; channel {channel} was analysed alone"));
            } else {
                mix.warnings
                    .push(format!("{words}; channel {channel} alone has no more cats, so the mix was analysed"));
            }
        }
    }
    Ok(reports)
}

/// Does what [`analyze_file`] does once, and measures the balance of the channels. If the length of the recording is
/// known, `progress` gets the share of it that is read, 0 to 1.
fn analyze_input(
    input: Input,
    name: Option<&str>,
    options: &Options,
    mut progress: impl FnMut(f64),
) -> Result<(Vec<Report>, Balance), FileError> {
    let mut recording = Recording::read_from(input)?;
    let format = recording.format();
    let channels: Vec<Channel> = match options.channels {
        Some(Channels::Each) => (1..=format.channels).map(Channel::One).collect(),
        Some(Channels::Only(channel)) => vec![channel],
        None => vec![Channel::Mix],
    };
    let mut hearings = channels
        .iter()
        .map(|channel| Hearing::new(*channel, format, options.detector))
        .collect::<Result<Vec<_>, _>>()?;
    let mut balance = Balance::new(format.channels);
    let (mut frames, mut peak) = (0_u64, 0.0_f32);
    let mut samples = Vec::new();
    loop {
        if options.stop.is_cancelled() {
            return Err(FileError::Stopped);
        }
        samples.clear();
        if recording.read(&mut samples)? == 0 {
            break;
        }
        frames += (samples.len() / usize::from(format.channels)) as u64;
        if let Some(left) = recording.frames() {
            progress(frames as f64 / (frames + left) as f64);
        }
        peak = peak.max(peak_of(&samples));
        balance.push(&samples);
        hearings.iter_mut().for_each(|hearing| hearing.push(&samples));
    }
    let start = start::start(recording.notes(), name);
    let mut warnings = recording.warnings().to_vec();
    if peak > BEYOND_FULL_SCALE {
        warnings.push(format!("samples are up to {peak:.0} times full scale and were clipped; is the scale right?"));
    }
    let reports = hearings.into_iter().map(|hearing| {
        let channel = if format.channels > 1 && hearing.channel != Channel::Mix { Some(hearing.channel) } else { None };
        let (analysis, heard) = hearing.finish(frames);
        Report { channel, analysis, heard, sample_rate_hz: format.sample_rate_hz, start, warnings: warnings.clone() }
    });
    Ok((reports.collect(), balance))
}

/// The highest of the samples, without their signs. They are finite.
fn peak_of(samples: &[f32]) -> f32 {
    // Sixteen at a time, because each comparison has to wait for the one before.
    let (groups, rest) = samples.as_chunks::<16>();
    let mut peaks = [0.0_f32; 16];
    let higher = |peak: &mut f32, sample: &f32| {
        let sample = sample.abs();
        *peak = if sample > *peak { sample } else { *peak };
    };
    for group in groups {
        peaks.iter_mut().zip(group).for_each(|(peak, sample)| higher(peak, sample));
    }
    peaks.iter_mut().zip(rest).for_each(|(peak, sample)| higher(peak, sample));
    peaks.iter().copied().fold(0.0, f32::max)
}

/// Analyses one channel, or the mix of all.
struct Hearing {
    channel: Channel,
    /// Channels of the recording.
    channels: usize,
    format: Format,
    framer: Framer,
    analyzer: Analyzer,
    /// Samples of canonical audio that were analysed.
    analysed: u64,
    picked: Vec<f32>,
}

impl Hearing {
    fn new(channel: Channel, format: Format, detector: DetectorConfig) -> Result<Self, FileError> {
        let Some(left) = channel.left_of(format.channels) else {
            let wanted = if let Channel::One(wanted) = channel { wanted } else { 0 };
            return Err(RecordingError::NoSuchChannel { wanted, available: format.channels }.into());
        };
        let available = usize::from(format.channels);
        let format = Format { channels: left, ..format };
        Ok(Self {
            channel,
            channels: available,
            framer: Framer::new(format.sample_rate_hz, left)?,
            analyzer: Analyzer::of_recording(detector),
            format,
            analysed: 0,
            picked: Vec::new(),
        })
    }

    fn push(&mut self, samples: &[f32]) {
        if self.channel == Channel::Mix {
            self.frame(samples, u64::MAX);
        } else {
            let mut picked = std::mem::take(&mut self.picked);
            picked.clear();
            picked.extend_from_slice(samples);
            self.channel.pick(&mut picked, 0, self.channels);
            self.frame(&picked, u64::MAX);
            self.picked = picked;
        }
    }

    /// Passes samples on until `most` samples of canonical audio were analysed in all.
    fn frame(&mut self, samples: &[f32], most: u64) {
        let Self { framer, analyzer, analysed, .. } = self;
        framer.push(samples, |frame| {
            let whole = usize::try_from(most - *analysed).unwrap_or(usize::MAX).min(frame.len());
            analyzer.push(&frame[..whole]);
            *analysed += whole as u64;
        });
    }

    /// Ends a recording of this many frames.
    fn finish(mut self, frames: u64) -> (Analysis, Vec<Vocalisation>) {
        let wanted = rescaled(frames, self.format.sample_rate_hz).max(self.analysed);
        let silence = vec![0.0; usize::from(self.format.channels) * (self.format.sample_rate_hz as usize / 50).max(1)];
        for _ in 0..MAX_FLUSH_S * 50 {
            if self.analysed == wanted {
                break;
            }
            self.frame(&silence, wanted);
        }
        self.analyzer.finish_vocalisations()
    }
}

/// Number of samples at 16 kHz that are as long as `samples` at another rate, rounded up.
fn rescaled(samples: u64, sample_rate_hz: u32) -> u64 {
    (samples * u64::from(SAMPLE_RATE_HZ)).div_ceil(u64::from(sample_rate_hz))
}

#[cfg(test)]
mod tests;
