//! Playing recordings, which the tests write first.

use super::*;

fn write(path: &Path, spec: hound::WavSpec, samples: &[i16]) {
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    samples.iter().for_each(|&sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
}

fn spec(sample_rate: u32, channels: u16) -> hound::WavSpec {
    hound::WavSpec { channels, sample_rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int }
}

fn ramp(from: i16, count: i16) -> Vec<i16> {
    (from..from + count).collect()
}

/// The next samples of a source, at the speed of this machine.
fn take(source: &mut Wav, count: u64) -> Vec<i16> {
    let mut out = Vec::new();
    source.take(count, Some(&mut out)).unwrap();
    out.iter().map(|&sample| (sample * 32768.0) as i16).collect()
}

#[test]
fn a_file_loops_without_a_seam() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    write(&path, spec(22_050, 2), &ramp(0, 1000));
    let mut source = Wav::open(&path, false, Channel::Mix).unwrap();
    assert_eq!(source.format(), SourceFormat { sample_rate_hz: 22_050, channels: 2 });
    assert_eq!(source.device(), path.display().to_string());
    assert_eq!(take(&mut source, 2500), [ramp(0, 1000), ramp(0, 1000), ramp(0, 500)].concat());
}

#[test]
fn once_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    write(&path, spec(16_000, 1), &ramp(0, 330));
    let mut source = Wav::open(&path, true, Channel::Mix).unwrap();
    let mut out = Vec::new();
    let mut reads = Vec::new();
    while reads.last() != Some(&Read::Ended) {
        let read = source.read(&mut out, Duration::from_secs(1)).unwrap();
        if read != Read::Nothing {
            reads.push(read);
        }
    }
    assert_eq!(out.len(), 330);
    assert_eq!(source.read(&mut out, Duration::from_secs(1)).unwrap(), Read::Ended);
}

#[test]
fn a_folder_plays_by_name_and_skips_what_is_not_a_wav_file() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("b.WAV"), spec(16_000, 1), &ramp(100, 50));
    write(&folder.path().join("a.wav"), spec(16_000, 1), &ramp(0, 50));
    std::fs::write(folder.path().join("a2.wav"), "no RIFF at all").unwrap();
    std::fs::write(folder.path().join("notes.txt"), "").unwrap();
    write(&folder.path().join("._a.wav"), spec(16_000, 1), &ramp(500, 50));
    let mut source = Wav::open(folder.path(), false, Channel::Mix).unwrap();
    assert_eq!(take(&mut source, 150), [ramp(0, 50), ramp(100, 50), ramp(0, 50)].concat());
}

#[test]
fn a_folder_of_different_formats_becomes_canonical() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("a.wav"), spec(16_000, 1), &ramp(0, 640));
    write(&folder.path().join("b.wav"), spec(48_000, 2), &[500; 96_000]);
    let mut source = Wav::open(folder.path(), false, Channel::Mix).unwrap();
    assert_eq!(source.format(), SourceFormat { sample_rate_hz: 16_000, channels: 1 });
    assert_eq!(take(&mut source, 640), ramp(0, 640));
    // The rest of the last frame is silence.
    assert_eq!(take(&mut source, 320), [0; 320]);
    let second = take(&mut source, 16_000);
    assert!(second[1000..15_000].iter().all(|&sample| (499..=501).contains(&sample)));
}

#[test]
fn nothing_to_play_is_an_error_that_names_the_path() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("empty.wav", &b""[..]), ("text.wav", b"not a recording, whatever its name says")] {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let error = Wav::open(&path, false, Channel::Mix).err().unwrap().to_string();
        assert!(error.contains(name) && error.len() > path.display().to_string().len() + 10, "{error}");
    }
    let path = folder.path().join("silent.wav");
    write(&path, spec(16_000, 1), &[]);
    let error = Wav::open(&path, false, Channel::Mix).err().unwrap().to_string();
    assert!(error.contains("silent.wav") && error.contains("no samples"), "{error}");

    let error = Wav::open(folder.path(), false, Channel::Mix).err().unwrap().to_string();
    assert!(error.contains("no usable WAV file"), "{error}");
    assert!(
        Wav::open(Path::new("/nowhere.wav"), false, Channel::Mix)
            .err()
            .unwrap()
            .to_string()
            .starts_with("/nowhere.wav: ")
    );
}

#[test]
fn a_recording_that_vanishes_is_an_error_and_not_an_endless_loop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.wav");
    write(&path, spec(16_000, 1), &ramp(0, 100));
    let mut source = Wav::open(&path, false, Channel::Mix).unwrap();
    assert_eq!(take(&mut source, 100), ramp(0, 100));
    std::fs::remove_file(&path).unwrap();
    let error = source.take(100, None).unwrap_err();
    assert!(matches!(error, SourceError::Reopen(_)), "{error:?}");
}
