//! Reads a file of each format, all of one meow, finds the same meow in each, and compares the table in
//! `docs/formats.md`. Then reads the same files damaged at random.
//!
//! `tests/formats/make` wrote the files. What hound can write is written here.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

use std::fmt::Write as _;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use recordings::{Input, Recording, RecordingError, Stream, Wave};
use sound::analysis::Analyzer;
use sound::detector::DetectorConfig;
use sound::framer::Framer;

/// Files next to `make`, what they are, and whether the coding changes the samples.
const FILES: [(&str, &str, bool); 19] = [
    ("meow-piped.wav", "WAV, 16 bits, from a pipe (without sizes)", false),
    ("meow-rf64.wav", "RF64, 16 bits", false),
    ("meow.w64", "Wave64, 16 bits", false),
    ("meow-alaw.wav", "WAV, A-law", true),
    ("meow-ulaw.wav", "WAV, µ-law", true),
    ("meow-ima.wav", "WAV, IMA ADPCM", true),
    ("meow-ms.wav", "WAV, Microsoft ADPCM", true),
    ("meow.flac", "FLAC", false),
    ("meow.oga", "FLAC in Ogg", false),
    ("meow-alac.m4a", "ALAC in M4A", false),
    ("meow.aiff", "AIFF, 16 bits", false),
    ("meow.caf", "CAF, 16 bits", false),
    ("meow.ogg", "Ogg Vorbis", true),
    ("meow.mp3", "MP3, 64 kbit/s", true),
    ("meow.m4a", "AAC in M4A, 64 kbit/s", true),
    ("meow.aac", "AAC (ADTS), 64 kbit/s", true),
    ("meow-voice.opus", "Opus, 12 kbit/s, for speech", true),
    ("meow.opus", "Opus, 32 kbit/s", true),
    ("meow-stereo.opus", "Opus, 64 kbit/s, stereo", true),
];

/// Bytes from the beginning within which a file is cut at every length.
const LONGEST_HEADER: usize = 64;

/// Damaged variants of each file that the test reads, unless `RECORDINGS_MUTATIONS` says how many.
const MUTATIONS: usize = 40;

/// Reads of one file, at most: far more than the largest of the files needs.
const MAX_READS: usize = 1_000_000;

/// Memory that the process may take while it reads damaged files, in KiB.
const MAX_MEMORY_KIB: u64 = 512 * 1024;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

fn original() -> Vec<u8> {
    std::fs::read(folder().join("../../../sound/tests/clips/meow_alone.wav")).unwrap()
}

/// The samples of the meow.
fn meow() -> Vec<i16> {
    hound::WavReader::new(Cursor::new(original())).unwrap().into_samples().map(Result::unwrap).collect()
}

/// The meow as hound writes it.
fn written(bits: u16, format: hound::SampleFormat) -> Vec<u8> {
    let spec = hound::WavSpec { channels: 1, sample_rate: 16_000, bits_per_sample: bits, sample_format: format };
    let mut file = Cursor::new(Vec::new());
    let mut writer = hound::WavWriter::new(&mut file, spec).unwrap();
    for sample in meow() {
        match format {
            hound::SampleFormat::Float => writer.write_sample(f32::from(sample) / 32_768.0).unwrap(),
            hound::SampleFormat::Int if bits < 16 => writer.write_sample(i32::from(sample) >> (16 - bits)).unwrap(),
            hound::SampleFormat::Int => writer.write_sample(i32::from(sample) << (bits - 16)).unwrap(),
        }
    }
    writer.finalize().unwrap();
    file.into_inner()
}

/// The meow in a container with the highest byte first.
fn rifx() -> Vec<u8> {
    let sound: Vec<u8> = meow().iter().flat_map(|sample| sample.to_be_bytes()).collect();
    let mut file = b"RIFX".to_vec();
    file.extend(u32::to_be_bytes(36 + sound.len() as u32));
    file.extend(b"WAVEfmt \0\0\0\x10\0\x01\0\x01\0\0\x3e\x80\0\0\x7d\0\0\x02\0\x10data");
    file.extend(u32::to_be_bytes(sound.len() as u32));
    file.extend(sound);
    file
}

/// What a file is, its content, and whether its samples differ from the original ones.
fn all() -> Vec<(&'static str, Vec<u8>, bool)> {
    use hound::SampleFormat::{Float, Int};
    let mut all = vec![
        ("WAV, 8 bits", written(8, Int), true),
        ("WAV, 16 bits", written(16, Int), false),
        ("WAV, 24 bits", written(24, Int), false),
        ("WAV, 32 bits", written(32, Int), false),
        ("WAV, floats of 32 bits", written(32, Float), false),
        ("WAV, 16 bits, highest byte first (RIFX)", rifx(), false),
    ];
    all.extend(FILES.map(|(name, what, lossy)| (what, std::fs::read(folder().join(name)).unwrap(), lossy)));
    all
}

/// All samples of a recording, and its warnings.
fn read(input: Input) -> Result<(Recording, Vec<f32>), RecordingError> {
    let mut recording = Recording::read_from(input)?;
    let mut samples = Vec::new();
    for _ in 0..MAX_READS {
        if recording.read(&mut samples)? == 0 {
            return Ok((recording, samples));
        }
    }
    panic!("the recording does not end");
}

fn vocalisations(recording: &Recording, samples: &[f32]) -> usize {
    let format = recording.format();
    let mut framer = Framer::new(format.sample_rate_hz, format.channels).unwrap();
    let mut analyzer = Analyzer::new(DetectorConfig::default());
    framer.push(samples, |frame| analyzer.push(frame));
    analyzer.finish().detections.len()
}

#[test]
fn every_format_has_the_same_meow_and_the_table_says_so() {
    let mut table =
        String::from("| format | vocalisations found | samples as in the original |\n| --- | --- | --- |\n");
    let wanted: Vec<f32> = meow().iter().map(|sample| f32::from(*sample) / 32_768.0).collect();
    for (what, bytes, lossy) in all() {
        let (recording, samples) = read(Input::memory(bytes.clone())).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(recording.warnings(), &[] as &[String], "{what}");
        // ffmpeg counts the padding of Wave64 as sound.
        let same = samples.starts_with(&wanted) && samples[wanted.len()..].iter().all(|sample| *sample == 0.0);
        assert_eq!(same, !lossy, "{what}: {} of {} samples", samples.len(), wanted.len());
        let found = vocalisations(&recording, &samples);
        assert_eq!(found, 1, "{what}");
        writeln!(table, "| {what} | {found} | {} |", if lossy { "nearly" } else { "exactly" }).unwrap();
        // From a pipe, which cannot go back.
        match read(Input::stream(Cursor::new(bytes))) {
            Ok((_, piped)) => assert!(piped == samples, "{what}: a pipe gives other samples"),
            // Its reader must be able to go back.
            Err(error) if what.contains("M4A") => {
                assert!(error.to_string().contains("comes from a pipe"), "{what}: {error}");
            }
            Err(error) => panic!("{what}, from a pipe: {error}"),
        }
    }
    let page = std::fs::read_to_string(folder().join("../../../docs/formats.md")).unwrap();
    assert!(page.contains(&table), "docs/formats.md must have this table:\n{table}");
}

/// How the error names a format of the table that is not read as a stream. `None`: it is.
fn only_a_file(what: &str) -> Option<&'static str> {
    let (_, name) =
        [("M4A", "MP4"), ("AIFF", "AIFF"), ("Opus", "Opus")].into_iter().find(|(word, _)| what.contains(word))?;
    Some(name)
}

#[test]
fn a_stream_gives_the_samples_of_the_file_or_names_the_format() {
    for (what, bytes, _) in all() {
        let opened = Stream::read_from(Input::stream(Cursor::new(bytes.clone())));
        if let Some(wanted) = only_a_file(what) {
            assert!(matches!(&opened, Err(RecordingError::NotStream { name }) if name == wanted), "{what}: {opened:?}");
            continue;
        }
        let mut stream = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        let (recording, wanted) = read(Input::memory(bytes)).unwrap();
        assert_eq!(stream.format(), recording.format(), "{what}");
        let mut samples = Vec::new();
        while stream.read(&mut samples).unwrap() > 0 {}
        assert!(samples == wanted, "{what}: {} samples of {}", samples.len(), wanted.len());
        assert_eq!(stream.stopped(), None, "{what}");
    }
    // What no reader knows is named too.
    let error = Stream::read_from(Input::memory(b"#!AMR\n".to_vec())).unwrap_err().to_string();
    assert!(error.starts_with("AMR is not read as a stream"), "{error}");
}

#[test]
fn film_without_sound_is_not_called_damaged() {
    let film = std::fs::read(folder().join("film.mp4")).unwrap();
    let Err(error) = read(Input::memory(film)) else { panic!("a film without sound has sound") };
    assert!(
        error.to_string().starts_with("this MP4 file has no sound, or only sound of an unknown codec; "),
        "{error}"
    );
}

#[test]
fn a_file_that_is_cut_off_gives_what_it_has_and_says_so() {
    for (what, bytes, _) in all() {
        // M4A has its index at the end. A pipe's WAV or ADTS does not say how long it is.
        if ["M4A", "pipe", "ADTS"].iter().any(|word| what.contains(word)) {
            continue;
        }
        let whole = read(Input::memory(bytes.clone())).unwrap().1.len();
        let cut = Input::memory(bytes[..bytes.len() * 2 / 3].to_vec());
        let (recording, samples) = read(cut).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(samples.len() > whole / 3 && samples.len() < whole, "{what}: {} of {whole}", samples.len());
        // Neither does an MP3 without a Xing header.
        if !what.contains("MP3") {
            let said = recording.warnings().iter().any(|warning| warning.contains("cut off"));
            assert!(said, "{what}: {:?}", recording.warnings());
        }
    }
}

#[test]
fn a_file_that_ends_within_its_header_is_an_error_or_a_short_recording() {
    for (what, bytes, _) in all() {
        for length in 0..=LONGEST_HEADER {
            let cut = bytes[..length].to_vec();
            // From a file and from a pipe; then what a node reads.
            for result in [read(Input::memory(cut.clone())), read(Input::stream(Cursor::new(cut.clone())))] {
                // No coding has more than two samples in a byte.
                let samples = result.map_or(0, |(_, samples)| samples.len());
                assert!(samples <= 2 * length, "{what}, {length} bytes: {samples} samples");
            }
            let is_wav = what.contains("WAV") || what.contains("RF64") || what.contains("Wave64");
            assert!(is_wav || what.contains("CAF") || Wave::read_from(Input::memory(cut)).is_err(), "{what}, {length}");
        }
    }
}

/// Damages a valid file at random: a byte, a field of four, a stretch, the end.
fn damaged(bytes: &[u8], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..random.random_range(1..6) {
        if bytes.len() < 128 {
            break;
        }
        let header = bytes.len().min(600);
        match random.random_range(0..5) {
            0 => bytes.truncate(random.random_range(64..=bytes.len())),
            1 => {
                let place = random.random_range(0..header - 4);
                let value = [0, 1, 0x7fff_ffff, u32::MAX, random.random()][random.random_range(0..5)];
                bytes[place..place + 4].copy_from_slice(&u32::to_le_bytes(value));
            }
            2 => {
                let from = random.random_range(0..bytes.len());
                let to = (from + random.random_range(1..100)).min(bytes.len());
                bytes[from..to].fill_with(|| random.random());
            }
            3 => {
                let place = random.random_range(0..bytes.len());
                bytes[place] ^= 1 << random.random_range(0..8);
            }
            _ => {
                let place = random.random_range(0..header);
                bytes[place] = random.random();
            }
        }
    }
    bytes
}

/// The most memory that this process had, in KiB.
fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn damaged_files_are_errors_or_recordings_in_bounded_memory() {
    let rounds = std::env::var("RECORDINGS_MUTATIONS").map_or(MUTATIONS, |rounds| rounds.parse().unwrap());
    let mut random = StdRng::seed_from_u64(20_261_128);
    for (what, bytes, _) in all() {
        let (mut failed, mut heard) = (0, 0);
        for round in 0..rounds {
            let bytes = damaged(&bytes, &mut random);
            match read(Input::memory(bytes)) {
                Ok((_, samples)) => {
                    heard += 1;
                    assert!(samples.iter().all(|sample| sample.is_finite()), "{what}, round {round}");
                }
                Err(_) => failed += 1,
            }
        }
        println!("{what}: {heard} recordings, {failed} errors");
        assert!(heard > 0, "{what}: nothing was read, so nothing was tested");
    }
    assert!(peak_memory_kib() < MAX_MEMORY_KIB, "{} KiB", peak_memory_kib());
}
