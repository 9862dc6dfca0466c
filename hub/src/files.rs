//! `hub analyze`: recordings instead of nodes, and no server.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;
use sound::SAMPLE_RATE_HZ;
use sound::analysis::{Analysis, Analyzer, AnalyzerConfig};
use sound::detection::{Context, Detection};
use sound::framer::{Framer, FramerError};

use crate::analysis::verdict::Verdict;
use crate::cli::AnalyzeArgs;
use crate::store::analyses::context_word;

/// Moments (samples of all channels) that are read at a time: what a long file takes of memory.
const CHUNK_MOMENTS: usize = 4096;

/// Silence that is pushed after the end at most, in seconds, until the last sample has come through the resampler. Its
/// filter delays by some hundredths of a second.
const MAX_FLUSH_S: u32 = 2;

/// Why a file cannot be analysed.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read, or is no WAV file that we understand.
    #[error("{0}")]
    Wav(#[from] hound::Error),
    /// It cannot be looked at.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Its format makes no sense.
    #[error("{0}")]
    Format(#[from] FramerError),
    /// Its samples have a size that we do not know.
    #[error("samples of {0} bits are not understood")]
    Bits(u16),
    /// A folder without anything to analyse.
    #[error("no WAV file in this folder")]
    EmptyFolder,
}

/// Analyses the files in order and prints what was found; a file that cannot be analysed is named on standard error, and
/// the others go on. The exit code is 1 when there was one.
pub fn analyze(args: &AnalyzeArgs) -> ExitCode {
    let mut out = io::stdout().lock();
    let mut all_good = true;
    for file in args.files.iter().flat_map(|path| expand(path)) {
        let printed = match file
            .and_then(|path| analyze_file(&path).map(|found| (path.clone(), found)).map_err(|why| (path, why)))
        {
            Ok((path, analysis)) if args.json => print_json(&mut out, &path, &analysis),
            Ok((path, analysis)) => print_table(&mut out, &path, &analysis),
            Err((path, why)) => {
                all_good = false;
                writeln!(io::stderr(), "{}: {why}", path.display())
            }
        };
        if let Err(error) = printed {
            // The reader has seen enough, as in `hub analyze ... | head`.
            return if error.kind() == io::ErrorKind::BrokenPipe { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    }
    if all_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Analyses a WAV file in constant memory, whatever its length.
///
/// # Errors
/// See [`FileError`].
pub fn analyze_file(path: &Path) -> Result<Analysis, FileError> {
    analyze_wav(hound::WavReader::open(path)?)
}

fn analyze_wav(reader: hound::WavReader<BufReader<File>>) -> Result<Analysis, FileError> {
    let spec = reader.spec();
    let mut framer = Framer::new(spec.sample_rate, spec.channels)?;
    let mut analyzer = Analyzer::new(AnalyzerConfig::default());
    let moments = u64::from(reader.duration());
    let mut left = rescaled(moments, spec.sample_rate);
    let mut push = |samples: &[f32]| {
        framer.push(samples, |frame| {
            let whole = usize::try_from(left).unwrap_or(usize::MAX).min(frame.len());
            analyzer.push(&frame[..whole]);
            left -= whole as u64;
        });
        left
    };

    let channels = usize::from(spec.channels);
    let mut chunk = Vec::with_capacity(CHUNK_MOMENTS * channels);
    for sample in samples(reader)? {
        chunk.push(sample?);
        if chunk.len() == chunk.capacity() {
            push(&chunk);
            chunk.clear();
        }
    }
    // Half a moment at the end of a broken file is no sound.
    chunk.truncate(chunk.len() / channels * channels);
    push(&chunk);
    let silence = vec![0.0; channels * (spec.sample_rate as usize / 50).max(1)];
    for _ in 0..MAX_FLUSH_S * 50 {
        if push(&[]) == 0 {
            break;
        }
        push(&silence);
    }
    Ok(analyzer.finish())
}

/// Length at 16 kHz of so many samples at another rate, rounded up.
fn rescaled(samples: u64, sample_rate_hz: u32) -> u64 {
    (samples * u64::from(SAMPLE_RATE_HZ)).div_ceil(u64::from(sample_rate_hz))
}

type Samples = Box<dyn Iterator<Item = Result<f32, hound::Error>>>;

/// The samples of a file, -1 to 1, channels interleaved.
fn samples(reader: hound::WavReader<BufReader<File>>) -> Result<Samples, FileError> {
    let spec = reader.spec();
    Ok(match (spec.sample_format, spec.bits_per_sample) {
        (hound::SampleFormat::Float, _) => {
            // A float can be anything at all.
            let clean = |sample: f32| if sample.is_finite() { sample } else { 0.0 };
            Box::new(reader.into_samples::<f32>().map(move |sample| sample.map(clean)))
        }
        (hound::SampleFormat::Int, bits @ 1..=32) => {
            let scale = 1.0 / (1_u64 << (bits - 1)) as f32;
            Box::new(reader.into_samples::<i32>().map(move |sample| sample.map(|sample| sample as f32 * scale)))
        }
        (hound::SampleFormat::Int, bits) => return Err(FileError::Bits(bits)),
    })
}

type Expanded = Vec<Result<PathBuf, (PathBuf, FileError)>>;

/// A file is itself, a folder the WAV files in it, in order of their names.
fn expand(path: &Path) -> Expanded {
    let fail = |why: FileError| vec![Err((path.to_path_buf(), why))];
    if !path.is_dir() {
        return vec![Ok(path.to_path_buf())];
    }
    let entries = match path.read_dir().and_then(|entries| entries.collect::<io::Result<Vec<_>>>()) {
        Ok(entries) => entries,
        Err(why) => return fail(why.into()),
    };
    let is_wav = |path: &PathBuf| path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("wav"));
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).filter(is_wav).collect();
    files.sort();
    if files.is_empty() { fail(FileError::EmptyFolder) } else { files.into_iter().map(Ok).collect() }
}

#[derive(Serialize)]
struct FileLine<'a> {
    file: String,
    duration_s: f64,
    cat_score: f32,
    detections: Vec<DetectionLine<'a>>,
}

#[derive(Serialize)]
struct DetectionLine<'a> {
    start_s: f64,
    end_s: f64,
    score: f32,
    context: &'a Context,
}

fn print_json(out: &mut impl Write, path: &Path, analysis: &Analysis) -> io::Result<()> {
    let line = FileLine {
        file: path.display().to_string(),
        duration_s: analysis.duration_s,
        cat_score: analysis.cat_score,
        detections: analysis.detections.iter().map(DetectionLine::from).collect(),
    };
    serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
    out.write_all(b"\n")?;
    out.flush()
}

impl<'a> From<&'a Detection> for DetectionLine<'a> {
    fn from(found: &'a Detection) -> Self {
        let (start_s, end_s) = (seconds(found.start_sample), seconds(found.end_sample));
        Self { start_s, end_s, score: found.score, context: &found.context }
    }
}

fn print_table(out: &mut impl Write, path: &Path, analysis: &Analysis) -> io::Result<()> {
    let count = analysis.detections.len();
    writeln!(
        out,
        "{}: {:.2} s, cat score {:.2}, {} ({})",
        path.display(),
        analysis.duration_s,
        analysis.cat_score,
        if count == 1 { "1 vocalisation".to_owned() } else { format!("{count} vocalisations") },
        Verdict::of(&analysis.detections).as_str(),
    )?;
    if count > 0 {
        writeln!(out, "     from s      to s  score  context            food  isol. brush  pitch Hz")?;
    }
    for found in &analysis.detections {
        let probabilities = &found.context.probabilities;
        writeln!(
            out,
            "  {:9.2} {:9.2}   {:.2}  {:16}   {:.2}  {:.2}  {:.2}   {:7.0}",
            seconds(found.start_sample),
            seconds(found.end_sample),
            found.score,
            context_word(found.context.label),
            probabilities.waiting_for_food,
            probabilities.isolation,
            probabilities.brushing,
            found.measurements.pitch_median_hz,
        )?;
    }
    out.flush()
}

fn seconds(samples: u64) -> f64 {
    samples as f64 / f64::from(SAMPLE_RATE_HZ)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(dir: &Path, name: &str, spec: hound::WavSpec, seconds: f64) -> PathBuf {
        let path = dir.join(name);
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for moment in 0..(f64::from(spec.sample_rate) * seconds) as u32 {
            let sample = (f64::from(moment) / f64::from(spec.sample_rate) * 440.0 * std::f64::consts::TAU).sin() * 0.5;
            for _ in 0..spec.channels {
                match spec.sample_format {
                    hound::SampleFormat::Float => writer.write_sample(sample as f32).unwrap(),
                    hound::SampleFormat::Int => {
                        let full_scale = f64::from(1_u32 << (spec.bits_per_sample - 1));
                        writer.write_sample((sample * full_scale) as i32).unwrap();
                    }
                }
            }
        }
        writer.finalize().unwrap();
        path
    }

    fn spec(
        sample_rate: u32,
        channels: u16,
        bits_per_sample: u16,
        sample_format: hound::SampleFormat,
    ) -> hound::WavSpec {
        hound::WavSpec { channels, sample_rate, bits_per_sample, sample_format }
    }

    #[test]
    fn any_format_gives_the_same_length_and_level() {
        use hound::SampleFormat::{Float, Int};
        let dir = tempfile::tempdir().unwrap();
        for (rate, channels, bits, format) in [
            (16_000, 1, 16, Int),
            (8_000, 1, 8, Int),
            (44_100, 2, 16, Int),
            (48_000, 2, 24, Int),
            (22_050, 1, 32, Int),
            (96_000, 3, 32, Float),
            (44_101, 1, 16, Int),
        ] {
            let path = wav(dir.path(), "tone.wav", spec(rate, channels, bits, format), 1.5);
            let analysis = analyze_file(&path).unwrap();
            assert!((analysis.duration_s - 1.5).abs() < 1e-3, "{rate} Hz: {} s", analysis.duration_s);
            // A sine of half of full scale.
            let rms_dbfs = analysis.level.rms_dbfs;
            assert!((rms_dbfs - -9.03).abs() < 0.3, "{rate} Hz, {channels} x {bits} bits: {rms_dbfs} dBFS");
        }
    }

    #[test]
    fn empty_recording_has_no_length() {
        let dir = tempfile::tempdir().unwrap();
        let path = wav(dir.path(), "empty.wav", spec(44_100, 2, 16, hound::SampleFormat::Int), 0.0);
        let analysis = analyze_file(&path).unwrap();
        assert_eq!((analysis.duration_s, analysis.detections.len()), (0.0, 0));
    }

    #[test]
    fn what_is_no_recording_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text.wav");
        std::fs::write(&text, "meow").unwrap();
        assert!(analyze_file(&text).is_err());
        assert!(analyze_file(&dir.path().join("missing.wav")).is_err());
        let cut = wav(dir.path(), "cut.wav", spec(16_000, 1, 16, hound::SampleFormat::Int), 1.0);
        let bytes = std::fs::read(&cut).unwrap();
        std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
        assert!(analyze_file(&cut).is_err(), "half a recording passed for a whole one");
    }

    #[test]
    fn folder_is_its_recordings_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mono = spec(16_000, 1, 16, hound::SampleFormat::Int);
        for name in ["b.wav", "a.WAV", "c.txt"] {
            wav(dir.path(), name, mono, 0.1);
        }
        let names: Vec<_> =
            expand(dir.path()).into_iter().map(|file| file.unwrap().file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.WAV", "b.wav"]);
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(expand(empty.path())[..], [Err((_, FileError::EmptyFolder))]));
    }

    #[test]
    fn line_of_json_has_the_promised_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = wav(dir.path(), "tone.wav", spec(16_000, 1, 16, hound::SampleFormat::Int), 0.5);
        let mut line = Vec::new();
        print_json(&mut line, &path, &analyze_file(&path).unwrap()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(json["file"], path.display().to_string());
        assert_eq!(json["duration_s"], 0.5);
        assert!(json["cat_score"].is_number() && json["detections"].is_array());
        assert_eq!(line.last(), Some(&b'\n'));
    }
}
