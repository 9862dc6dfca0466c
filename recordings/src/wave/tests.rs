use super::*;

const RATE: u32 = 8_000;

/// Half a second of a tone, as numbers of 16 bits.
fn tone() -> Vec<i16> {
    (0..4_001).map(|n| ((f64::from(n) * 0.3).sin() * 12_000.0) as i16 | 1).collect()
}

fn bytes_of(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

fn chunk(name: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut chunk = [&name[..], &(content.len() as u32).to_le_bytes(), content].concat();
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

fn format(tag: u16, channels: u16, bits: u16, extra: &[u8]) -> Vec<u8> {
    let align = channels * bits.div_ceil(8);
    format_of(tag, channels, align, bits, extra)
}

fn format_of(tag: u16, channels: u16, align: u16, bits: u16, extra: &[u8]) -> Vec<u8> {
    let mut head = [tag.to_le_bytes(), channels.to_le_bytes()].concat();
    head.extend(RATE.to_le_bytes());
    head.extend((RATE * u32::from(align)).to_le_bytes());
    head.extend(align.to_le_bytes());
    head.extend(bits.to_le_bytes());
    head.extend(extra);
    chunk(b"fmt ", &head)
}

fn pcm() -> Vec<u8> {
    format(1, 1, 16, b"")
}

/// A data chunk whose size is another than that of its content.
fn data(size: u32, content: &[u8]) -> Vec<u8> {
    [&b"data"[..], &size.to_le_bytes(), content].concat()
}

fn riff(chunks: &[&[u8]]) -> Vec<u8> {
    let content = chunks.concat();
    [&b"RIFF"[..], &(content.len() as u32 + 4).to_le_bytes(), b"WAVE", &content].concat()
}

/// All samples, and the warnings. A pipe must give the same samples where `piped` says so.
fn read(file: Vec<u8>, piped: bool) -> Result<(Vec<f32>, Vec<String>), RecordingError> {
    let all = |input| {
        let mut recording = Wave::read_from(input)?;
        let (mut out, frames) = (Vec::new(), recording.frames());
        while recording.read(&mut out)? > 0 {}
        if let Some(frames) = frames {
            assert!(out.len() as u64 <= frames * u64::from(recording.format().channels), "more than announced");
        }
        Ok((out, recording.warnings().to_vec()))
    };
    if piped {
        let (piped, _) = all(Input::stream(io::Cursor::new(file.clone())))?;
        assert_eq!(piped, all(Input::memory(file.clone()))?.0, "a pipe gives other samples");
    }
    all(Input::memory(file))
}

fn expected() -> Vec<f32> {
    tone().iter().map(|sample| f32::from(*sample) / 32_768.0).collect()
}

#[test]
fn chunks_may_come_in_any_order_with_or_without_padding() {
    let sound = chunk(b"data", &bytes_of(&tone()));
    let odd = chunk(b"bext", &[b'x'; 603]);
    let unpadded = &odd[..odd.len() - 1];
    for (what, chunks, piped) in [
        ("plain", vec![&pcm()[..], &sound], true),
        ("odd chunk before", vec![&odd[..], &pcm(), &sound], true),
        ("odd chunk without padding", vec![unpadded, &pcm(), &sound], true),
        ("chunks behind", vec![&pcm()[..], &sound, &odd, &chunk(b"LIST", b"INFO")], true),
        ("format behind", vec![&sound[..], &odd, &pcm()], false),
    ] {
        let (samples, warnings) = read(riff(&chunks), piped).unwrap();
        assert_eq!((samples, warnings), (expected(), vec![]), "{what}");
    }
    let error = Wave::read_from(Input::stream(io::Cursor::new(riff(&[&sound, &pcm()])))).unwrap_err();
    assert!(error.to_string().contains("no fmt chunk"), "{error}");
}

#[test]
fn size_of_the_sound_may_be_anything() {
    let sound = bytes_of(&tone());
    for size in [u32::MAX, 0x8000_0000, 0x7fff_ffff, 0x7fff_f000, 0xffff_ffdb] {
        let file = riff(&[&pcm(), &data(size, &sound)]);
        assert_eq!(read(file, true).unwrap(), (expected(), vec![]), "{size:#x}");
    }
    for (size, warning) in [(0, "did not finish the header"), (sound.len() as u32 + 3_000, "cut off")] {
        let file = riff(&[&pcm(), &data(size, &sound)]);
        let (samples, warnings) = read(file.clone(), true).unwrap();
        assert_eq!(samples, expected(), "{size}");
        assert!(warnings.len() == 1 && warnings[0].contains(warning), "{size}: {warnings:?}");
        if size > 0 {
            let mut piped = Wave::read_from(Input::stream(io::Cursor::new(file))).unwrap();
            while piped.read(&mut Vec::new()).unwrap() > 0 {}
            assert!(piped.warnings()[0].contains("cut off"), "{:?}", piped.warnings());
        }
    }
    // A chunk follows the empty one, so there is no sound.
    let file = riff(&[&pcm(), &data(0, b""), &chunk(b"LIST", b"INFO")]);
    let (samples, warnings) = read(file, false).unwrap();
    assert!(samples.is_empty() && warnings[0].contains("no sound"), "{warnings:?}");
    // A recorder that writes the size now and then, and lost power between.
    let long: Vec<u8> = sound.iter().copied().cycle().take(100_000).collect();
    let (samples, warnings) = read(riff(&[&pcm(), &data(10_000, &long)]), false).unwrap();
    assert_eq!(samples.len(), 50_000);
    assert!(warnings[0].contains("90000 more follow"), "{warnings:?}");
    // A rest that is no chunk and too short for sound.
    let file = riff(&[&pcm(), &chunk(b"data", &sound), &[0; 300]]);
    assert_eq!(read(file, true).unwrap().0, expected());
}

#[test]
fn a_file_that_ends_within_a_frame_gives_whole_frames() {
    let stereo: Vec<i16> = tone().iter().flat_map(|sample| [*sample, 7]).collect();
    let mut file = riff(&[&format(1, 2, 16, b""), &chunk(b"data", &bytes_of(&stereo))]);
    file.truncate(file.len() - 1_001);
    let (samples, warnings) = read(file, true).unwrap();
    assert_eq!(samples.len(), 2 * (4_001 - 251));
    assert!(warnings[0].contains("cut off"), "{warnings:?}");
}

#[test]
fn long_files_have_their_size_elsewhere() {
    let sound = bytes_of(&tone());
    let sizes = |size: u64| [&0_u64.to_le_bytes()[..], &size.to_le_bytes(), &0_u64.to_le_bytes(), &[0; 4]].concat();
    for name in [b"RF64", b"BW64"] {
        for size in [sound.len() as u64, 0, u64::MAX] {
            let chunks = [chunk(b"ds64", &sizes(size)), pcm(), data(u32::MAX, &sound)].concat();
            let file = [&name[..], &[0xff; 4], b"WAVE", &chunks].concat();
            let (samples, warnings) = read(file, size != u64::MAX).unwrap();
            assert_eq!((samples, warnings.len()), (expected(), usize::from(size == u64::MAX)), "{size}");
        }
    }
    let guid = |name: &[u8; 4]| [&name[..], b"\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a"].concat();
    let long = |name, content: &[u8]| {
        let mut chunk = [guid(name), (content.len() as u64 + 24).to_le_bytes().to_vec(), content.to_vec()].concat();
        chunk.resize(chunk.len().next_multiple_of(8), 0);
        chunk
    };
    let head = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0";
    let chunks = [long(b"junk", b"abc"), long(b"fmt ", &pcm()[8..]), long(b"data", &sound)].concat();
    let file = [&head[..], &(40 + chunks.len() as u64).to_le_bytes(), &guid(b"wave"), &chunks].concat();
    assert_eq!(read(file, true).unwrap(), (expected(), vec![]));
}

#[test]
fn every_width_gives_the_same_sound() {
    let close = |file: Vec<u8>, tolerance: f32, what: &str| {
        let (samples, warnings) = read(file, true).unwrap();
        assert_eq!((samples.len(), warnings), (4_001, vec![]), "{what}");
        let off = samples.iter().zip(expected()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off <= tolerance, "{what}: {off}");
    };
    let wide = |shift: u32, width: usize| -> Vec<u8> {
        tone().iter().flat_map(|sample| (i32::from(*sample) << shift).to_le_bytes()[..width].to_vec()).collect()
    };
    let at_the_bottom: Vec<u8> = tone().iter().flat_map(|sample| (i32::from(*sample) << 8 | 1).to_le_bytes()).collect();
    let eight: Vec<u8> = tone().iter().map(|sample| ((sample >> 8) + 128) as u8).collect();
    let guid = b"\x01\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71";
    let extended = [&[22, 0, 24, 0, 4, 0, 0, 0][..], guid].concat();
    for (what, head, sound, tolerance) in [
        ("8 bits", format(1, 1, 8, b""), eight, 0.01),
        ("24 bits", format(1, 1, 24, b""), wide(8, 3), 0.0),
        ("32 bits", format(1, 1, 32, b""), wide(16, 4), 0.0),
        ("24 in 32, extensible", format(0xfffe, 1, 32, &extended), wide(16, 4), 0.0),
        ("24 in 32, at the top", format_of(1, 1, 4, 24, b""), wide(16, 4), 0.0),
        ("24 in 32, of arecord", format_of(1, 1, 4, 24, b""), at_the_bottom, 1e-6),
        ("block size 0", format_of(1, 1, 0, 16, b""), bytes_of(&tone()), 0.0),
        ("A-law", format(6, 1, 8, b""), tone().iter().map(|sample| nearest(Coding::ALaw, *sample)).collect(), 0.02),
        ("µ-law", format(7, 1, 8, b""), tone().iter().map(|sample| nearest(Coding::MuLaw, *sample)).collect(), 0.02),
    ] {
        close(riff(&[&head, &chunk(b"data", &sound)]), tolerance, what);
    }
}

/// The byte that decodes nearest to a sample.
fn nearest(coding: Coding, sample: i16) -> u8 {
    let off = |byte: &u8| {
        let mut out = Vec::new();
        Blocks { coding, channels: 1, bytes: 1 }.decode(&[*byte], &mut out);
        ((out[0] - f32::from(sample) / 32_768.0).abs() * 1e6) as u32
    };
    (0..=255).min_by_key(off).unwrap()
}

#[test]
fn blocks_of_adpcm_are_cut_to_the_frames_of_the_header() {
    // A block of IMA ADPCM: 9 frames of 100, all codes 0 with the smallest step, of which the file has 5.
    let block = [100, 0, 0, 0, 0, 0, 0, 0];
    let head = format_of(0x11, 1, 8, 4, &[2, 0, 9, 0]);
    let file = riff(&[&head, &chunk(b"fact", &5_u32.to_le_bytes()), &chunk(b"data", &block)]);
    assert_eq!(read(file, true).unwrap(), (vec![100.0 / 32_768.0; 5], vec![]));
}

#[test]
fn what_cannot_be_read_is_named() {
    let sound = bytes_of(&tone());
    for (head, wanted) in [
        (format(0x55, 1, 0, b""), "MP3 in WAV is not supported; convert it: ffmpeg -i in.wav out.flac"),
        (format(1, 1, 64, b""), "WAV with samples of 64 bits"),
        (format(1, 0, 16, b""), "at least one channel"),
        (format(1, 65, 16, b""), "65 channels"),
        (format_of(0x11, 1, 3, 4, b""), "too small for ADPCM"),
        (vec![], "no fmt chunk"),
    ] {
        let error = read(riff(&[&head, &chunk(b"data", &sound)]), false).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
    for (file, wanted) in [
        (&b""[..], "empty"),
        (&[0; 4096], "begins with zeros"),
        (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "companion file of macOS"),
        (b"<html>", "no known audio format"),
        (b"\x1a\x45\xdf\xa3xx", "Matroska or WebM cannot be played, only WAV; convert it: ffmpeg -i in.webm out.wav"),
        (b"OggS\0\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x13OpusHead\x01", "Opus cannot be played"),
        (&riff(&[&pcm()]), "no data chunk"),
    ] {
        let error = Wave::read_from(Input::memory(file.to_vec())).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
