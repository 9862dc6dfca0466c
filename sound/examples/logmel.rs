//! Computes log-mel frames for the training in `training/`: reads recordings from standard input until it ends, and
//! writes their frames to standard output.
//!
//! The input has for each recording the number of samples (u32) and then the samples of canonical audio (i16). The
//! output has for each recording the number of frames (u32) and then the frames, each of `BANDS` f32. All is
//! little-endian.

use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};

use sound::logmel::LogMel;

fn main() -> io::Result<()> {
    let mut input = BufReader::with_capacity(1 << 20, io::stdin().lock());
    let mut output = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let mut length = [0; 4];
    loop {
        match input.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return output.flush(),
            Err(error) => return Err(error),
        }
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize * 2];
        input.read_exact(&mut bytes)?;
        let samples: Vec<i16> = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        let mut frames = Vec::new();
        LogMel::new().push(&samples, |frame| frames.push(*frame));
        output.write_all(&u32::try_from(frames.len()).map_err(io::Error::other)?.to_le_bytes())?;
        for value in frames.iter().flatten() {
            output.write_all(&value.to_le_bytes())?;
        }
        output.flush()?;
    }
}
