//! Writing to a ring and reading from it.

use super::*;

const STEREO: SourceFormat = SourceFormat { sample_rate_hz: 48_000, channels: 2 };
const NOW: Duration = Duration::ZERO;

/// Sample groups `from..to`. The value of a sample says its group and channel.
fn groups(from: u32, to: u32) -> Vec<f32> {
    (from..to).flat_map(|group| [group as f32, group as f32 + 0.5]).collect()
}

fn read(reader: &mut RingReader) -> (Read, Vec<f32>) {
    let mut out = Vec::new();
    let read = reader.read(&mut out, NOW).unwrap();
    (read, out)
}

#[test]
fn samples_come_out_as_they_went_in() {
    let (mut writer, mut reader, _) = ring_of(STEREO, 100);
    for round in 0..10 {
        writer.write(&groups(round * 30, round * 30 + 30), |sample| sample);
        assert_eq!(read(&mut reader), (Read::Samples, groups(round * 30, round * 30 + 30)));
    }
    assert_eq!(read(&mut reader), (Read::Nothing, vec![]));
}

#[test]
fn full_ring_drops_the_newest_and_counts_and_marks_them() {
    let (mut writer, mut reader, _) = ring_of(STEREO, 100);
    writer.write(&groups(0, 70), |sample| sample);
    writer.write(&groups(70, 140), |sample| sample);
    writer.write(&groups(140, 150), |sample| sample);
    assert_eq!(read(&mut reader), (Read::Samples, groups(0, 100)));
    writer.write(&groups(150, 160), |sample| sample);
    writer.write(&groups(160, 170), |sample| sample);
    assert_eq!(read(&mut reader), (Read::Overrun { lost_samples: 50 }, groups(150, 170)));
    assert_eq!(read(&mut reader), (Read::Nothing, vec![]));
}

#[test]
fn xrun_is_reported_where_it_happened() {
    let (mut writer, mut reader, signals) = ring_of(STEREO, 100);
    writer.write(&groups(0, 10), |sample| sample);
    signals.xrun();
    signals.xrun();
    writer.write(&groups(10, 20), |sample| sample);
    writer.write(&groups(20, 30), |sample| sample);
    assert_eq!(read(&mut reader), (Read::Samples, groups(0, 10)));
    assert_eq!(read(&mut reader), (Read::Overrun { lost_samples: 0 }, groups(10, 30)));
}

#[test]
fn xrun_and_full_ring_in_one_place_are_of_unknown_length() {
    let (mut writer, mut reader, signals) = ring_of(STEREO, 10);
    writer.write(&groups(0, 15), |sample| sample);
    assert_eq!(read(&mut reader), (Read::Samples, groups(0, 10)));
    signals.xrun();
    writer.write(&groups(15, 20), |sample| sample);
    assert_eq!(read(&mut reader), (Read::Overrun { lost_samples: 0 }, groups(15, 20)));
}

#[test]
fn more_losses_than_marks_drop_samples_but_lose_no_count() {
    let (mut writer, mut reader, _) = ring_of(STEREO, 10);
    let mut sent = 0_u64;
    let mut got = 0_u64;
    let mut lost = 0_u64;
    for _ in 0..3 * RING_MARKS as u32 {
        writer.write(&groups(0, 13), |sample| sample);
        sent += 13;
        // Reads one sample group, so that each round writes one and loses some.
        if let Ok(chunk) = reader.samples.read_chunk(2) {
            chunk.commit_all();
            reader.read += 1;
            got += 1;
        }
    }
    loop {
        let (read, out) = read(&mut reader);
        got += out.len() as u64 / 2;
        match read {
            Read::Overrun { lost_samples } => lost += lost_samples,
            Read::Nothing => break,
            _ => {}
        }
    }
    // The last loss is reported with the next sample.
    writer.write(&groups(0, 1), |sample| sample);
    let Read::Overrun { lost_samples } = read(&mut reader).0 else { panic!("the last loss was not marked") };
    assert_eq!(sent, got + lost + lost_samples);
}

#[test]
fn failure_comes_after_the_samples_before_it_and_keeps_the_first_reason() {
    let (mut writer, mut reader, signals) = ring_of(STEREO, 100);
    writer.write(&groups(0, 5), |sample| sample);
    signals.fail(|| "unplugged".into());
    signals.fail(|| "again".into());
    assert_eq!(read(&mut reader), (Read::Samples, groups(0, 5)));
    assert_eq!(reader.read(&mut Vec::new(), NOW), Err("unplugged".into()));
}

#[test]
fn waiting_reader_is_woken_by_samples_and_by_failure() {
    let generous = Duration::from_secs(60);
    let (mut writer, mut reader, signals) = ring_of(STEREO, 100);
    let waiting = thread::spawn(move || {
        let mut out = Vec::new();
        let first = reader.read(&mut out, generous);
        (first, out, reader.read(&mut Vec::new(), generous))
    });
    writer.write(&groups(0, 5), |sample| sample);
    signals.fail(|| "unplugged".into());
    let (first, out, second) = waiting.join().unwrap();
    assert_eq!((first, out, second), (Ok(Read::Samples), groups(0, 5), Err("unplugged".into())));
}

#[test]
fn callback_that_is_gone_is_an_error_not_silence() {
    let (writer, mut reader, _) = ring_of(STEREO, 100);
    drop(writer);
    assert!(reader.read(&mut Vec::new(), NOW).is_err());
}
