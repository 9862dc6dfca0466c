use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::files::tests::{spec, wav};

fn analyze(path: &Path) -> Result<Analysis, FileError> {
    Ok(analyze_file(path, &Options::default())?.remove(0).analysis)
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
        let analysis = analyze(&path).unwrap();
        assert!((analysis.duration_s - 1.5).abs() < 1e-3, "{rate} Hz: {} s", analysis.duration_s);
        // A sine at half of full scale.
        let rms_dbfs = analysis.level.rms_dbfs;
        assert!((rms_dbfs - -9.03).abs() < 0.3, "{rate} Hz, {channels} x {bits} bits: {rms_dbfs} dBFS");
    }
}

#[test]
fn empty_recording_has_no_length() {
    let dir = tempfile::tempdir().unwrap();
    let path = wav(dir.path(), "empty.wav", spec(44_100, 2, 16, hound::SampleFormat::Int), 0.0);
    let reports = analyze_file(&path, &Options::default()).unwrap();
    assert_eq!((reports[0].analysis.duration_s, reports[0].heard.len()), (0.0, 0));
    assert_eq!(reports[0].warnings, ["the file has a header and no sound"]);
}

#[test]
fn file_that_is_no_recording_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.wav");
    std::fs::write(&text, "meow").unwrap();
    assert!(analyze(&text).is_err());
    assert!(analyze(&dir.path().join("missing.wav")).is_err());
    let cut = wav(dir.path(), "cut.wav", spec(16_000, 1, 16, hound::SampleFormat::Int), 1.0);
    let bytes = std::fs::read(&cut).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let reports = analyze_file(&cut, &Options::default()).unwrap();
    assert!(reports[0].warnings[0].contains("cut off"), "{:?}", reports[0].warnings);
    assert!((reports[0].analysis.duration_s - 0.5).abs() < 0.01);
    let wide = wav(dir.path(), "wide.wav", spec(16_000, 65, 16, hound::SampleFormat::Int), 0.1);
    assert!(matches!(analyze(&wide), Err(FileError::Recording(RecordingError::Channels(65)))));
}

/// Damages a valid file at random: bytes of the header or elsewhere, a length, the end.
fn damaged(bytes: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..6) {
        match random.random_range(0..5) {
            0 => bytes.truncate(random.random_range(0..=bytes.len())),
            1 => bytes.extend((0..random.random_range(1..200)).map(|_| random.random::<u8>())),
            2 if bytes.len() > 60 => {
                let field = random.random_range(0..56);
                let value = [0, 1, 2, 0x7fff_ffff, 0xffff_ffff, random.random()][random.random_range(0..6)];
                bytes[field..field + 4].copy_from_slice(&u32::to_le_bytes(value));
            }
            3 if !bytes.is_empty() => {
                let from = random.random_range(0..bytes.len());
                let to = (from + random.random_range(1..100)).min(bytes.len());
                bytes[from..to].fill_with(|| random.random());
            }
            _ if !bytes.is_empty() => {
                let place = random.random_range(0..bytes.len().min(64));
                bytes[place] = random.random();
            }
            _ => {}
        }
    }
    bytes
}

#[test]
fn damaged_files_are_errors_or_recordings() {
    use hound::SampleFormat::{Float, Int};
    let dir = tempfile::tempdir().unwrap();
    let originals = [(16_000, 1, 16, Int), (8_000, 2, 8, Int), (44_100, 1, 24, Int), (48_000, 2, 32, Float)].map(
        |(rate, channels, bits, format)| {
            std::fs::read(wav(dir.path(), "whole.wav", spec(rate, channels, bits, format), 0.1)).unwrap()
        },
    );
    let mut random = StdRng::seed_from_u64(20_261_125);
    let (mut errors, mut heard) = (0, 0);
    for round in 0..4_000 {
        let bytes = damaged(&originals[round % originals.len()], &mut random);
        match analyze_input(Input::memory(bytes), None, &Options::default(), |_| ()) {
            Ok((reports, _)) => {
                heard += 1;
                let analysis = &reports[0].analysis;
                assert!(analysis.cat_score.is_finite() && analysis.level.rms_dbfs.is_finite(), "round {round}");
            }
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 100 && heard > 100, "too few of one kind to test anything: {errors} errors, {heard} recordings");
}

#[test]
fn each_channel_is_analysed_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = wav(dir.path(), "tone.wav", spec(44_100, 3, 16, hound::SampleFormat::Int), 0.5);
    let options = |channels| Options { channels: Some(channels), ..Options::default() };
    let reports = analyze_file(&path, &options(Channels::Each)).unwrap();
    let channels: Vec<_> = reports.iter().map(|report| report.channel).collect();
    assert_eq!(channels, [1, 2, 3].map(|number| Some(Channel::One(number))));
    assert!(reports.iter().all(|report| (report.analysis.duration_s - 0.5).abs() < 1e-3));
    let error = analyze_file(&path, &options(Channels::Only(Channel::One(4)))).unwrap_err().to_string();
    assert_eq!(error, "channel 4 does not exist: the file has 3");
}

#[test]
fn a_file_counts_in_the_progress_while_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = wav(dir.path(), "tone.wav", spec(16_000, 1, 16, hound::SampleFormat::Int), 10.0);
    let mut fractions = Vec::new();
    analyze_input(Input::open(&path).unwrap(), None, &Options::default(), |fraction| fractions.push(fraction)).unwrap();
    assert!(fractions.len() > 10 && fractions.is_sorted() && fractions.last() == Some(&1.0), "{fractions:?}");
    let bar = ProgressBar::hidden();
    analyze_file(&path, &Options { progress: Some(bar.clone()), ..Options::default() }).unwrap();
    assert_eq!(bar.position(), path.metadata().unwrap().len());
}

/// A meow on the left; on the right, what `right` makes of each sample.
fn stereo_meow(dir: &Path, right: impl Fn(i16) -> i16) -> PathBuf {
    let meow = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sound/tests/clips/meow_alone.wav");
    let mut reader = hound::WavReader::open(meow).unwrap();
    let path = dir.join("stereo.wav");
    let mut writer = hound::WavWriter::create(&path, hound::WavSpec { channels: 2, ..reader.spec() }).unwrap();
    for sample in reader.samples::<i16>().map(Result::unwrap) {
        writer.write_sample(sample).unwrap();
        writer.write_sample(right(sample)).unwrap();
    }
    writer.finalize().unwrap();
    path
}

#[test]
fn a_cat_that_the_mix_hides_is_found_in_its_channel() {
    let dir = tempfile::tempdir().unwrap();
    let path = stereo_meow(dir.path(), |sample| -sample.max(-32_767));
    let report = analyze_file(&path, &Options::default()).unwrap().remove(0);
    assert_eq!((report.heard.len(), report.channel), (1, Some(Channel::One(1))));
    assert!(report.warnings[0].contains("cancel each other"), "{:?}", report.warnings);
    // Whoever asks for the mix gets it, and the warning.
    let mix = Options { channels: Some(Channels::Only(Channel::Mix)), ..Options::default() };
    let report = analyze_file(&path, &mix).unwrap().remove(0);
    assert_eq!((report.heard.len(), report.channel), (0, None));
    assert!(report.warnings[0].contains("--channel left"), "{:?}", report.warnings);
}
