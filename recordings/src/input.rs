//! The bytes of a recording: from a file, where the reader can go back, or from a pipe, where it cannot.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes that are read from the file at a time.
const PIECE: usize = 32 * 1024;

/// A source that can go back.
trait Positioned: Read + Seek + Send + Sync {}
impl<T: Read + Seek + Send + Sync> Positioned for T {}

enum Source {
    Positioned(Box<dyn Positioned>),
    Stream(Box<dyn Read + Send + Sync>),
}

/// The bytes of a recording.
pub struct Input {
    source: Source,
    /// Bytes in all. `None`: a pipe.
    length: Option<u64>,
    /// Bytes that were read from the source. Those before `taken` were taken from here.
    buffer: Vec<u8>,
    taken: usize,
    /// Position of the first byte that was not taken.
    position: u64,
    /// Whether the library is kept from going back.
    #[cfg(feature = "streams")]
    pub(crate) forward_only: bool,
    /// Where the streams of an Ogg file are counted as it is read.
    #[cfg(feature = "streams")]
    pub(crate) links: Option<crate::links::SharedLinks>,
}

impl Input {
    /// Opens a file. A pipe or a device is read as a stream.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() {
            Ok(Self::new(Source::Positioned(Box::new(file)), Some(metadata.len())))
        } else {
            Ok(Self::stream(file))
        }
    }

    /// A stream that cannot go back, such as standard input.
    pub fn stream(stream: impl Read + Send + Sync + 'static) -> Self {
        Self::new(Source::Stream(Box::new(stream)), None)
    }

    /// A file in memory.
    pub fn memory(bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        Self::new(Source::Positioned(Box::new(io::Cursor::new(bytes))), Some(length))
    }

    fn new(source: Source, length: Option<u64>) -> Self {
        Self {
            source,
            length,
            buffer: Vec::new(),
            taken: 0,
            position: 0,
            #[cfg(feature = "streams")]
            forward_only: false,
            #[cfg(feature = "streams")]
            links: None,
        }
    }

    /// Position of the next byte.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes from here to the end. `None`: a pipe.
    pub(crate) fn left(&self) -> Option<u64> {
        self.length.map(|length| length.saturating_sub(self.position))
    }

    /// The next `count` bytes, without taking them. Fewer at the end of the file.
    pub(crate) fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.buffer.len() - self.taken < count {
            self.buffer.drain(..self.taken);
            self.taken = 0;
            let filled = self.buffer.len();
            self.buffer.resize(filled + PIECE.max(count - filled), 0);
            let read = read_some(&mut self.source, &mut self.buffer[filled..]);
            self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
            if read? == 0 {
                break;
            }
        }
        let end = self.buffer.len().min(self.taken + count);
        Ok(&self.buffer[self.taken..end])
    }

    /// Takes up to `count` bytes. Fewer at the end of the file.
    pub(crate) fn take_up_to(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let bytes = self.peek(count)?.to_vec();
        self.advance(bytes.len());
        Ok(bytes)
    }

    /// Takes bytes that were peeked at.
    pub(crate) fn advance(&mut self, count: usize) {
        self.taken += count;
        self.position += count as u64;
    }

    /// Skips `count` bytes, or to the end of the file.
    pub(crate) fn skip(&mut self, count: u64) -> io::Result<()> {
        if count > (self.buffer.len() - self.taken) as u64
            && let Some(length) = self.length
        {
            return self.go_to(self.position.saturating_add(count).min(length));
        }
        let mut left = count;
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            let got = self.peek(piece)?.len();
            self.advance(got);
            left -= got as u64;
            if got < piece {
                break;
            }
        }
        Ok(())
    }

    /// Goes to a position.
    ///
    /// # Errors
    /// If the input is a pipe.
    pub(crate) fn go_to(&mut self, position: u64) -> io::Result<()> {
        self.seek(SeekFrom::Start(position)).map(|_| ())
    }
}

fn read_some(source: &mut Source, into: &mut [u8]) -> io::Result<usize> {
    loop {
        let read = match source {
            Source::Positioned(source) => source.read(into),
            Source::Stream(stream) => stream.read(into),
        };
        match read {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

impl Read for Input {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let ready = self.buffer.len() - self.taken;
        let got = if ready > 0 {
            let count = ready.min(into.len());
            into[..count].copy_from_slice(&self.buffer[self.taken..self.taken + count]);
            self.taken += count;
            count
        } else {
            read_some(&mut self.source, into)?
        };
        #[cfg(feature = "streams")]
        if let Some(links) = &self.links {
            links.see(self.position, &into[..got]);
        }
        self.position += got as u64;
        Ok(got)
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let Source::Positioned(source) = &mut self.source else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a pipe cannot go back"));
        };
        let to = match to {
            SeekFrom::Current(step) => SeekFrom::Start(self.position.checked_add_signed(step).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidInput, "a position before the beginning of the file")
            })?),
            to => to,
        };
        self.position = source.seek(to)?;
        self.buffer.clear();
        self.taken = 0;
        Ok(self.position)
    }
}

#[cfg(feature = "streams")]
impl symphonia::core::io::MediaSource for Input {
    fn is_seekable(&self) -> bool {
        self.length.is_some() && !self.forward_only
    }

    fn byte_len(&self) -> Option<u64> {
        self.length.filter(|_| !self.forward_only)
    }
}

impl std::fmt::Debug for Input {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Input")
            .field("length", &self.length)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_pipes_give_the_same_bytes() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        for mut input in [Input::memory(bytes.clone()), Input::stream(io::Cursor::new(bytes.clone()))] {
            assert_eq!(input.peek(10).unwrap(), &bytes[..10]);
            assert_eq!(input.take_up_to(40_000).unwrap(), &bytes[..40_000]);
            input.skip(100_000).unwrap();
            assert_eq!(input.position(), 140_000);
            let mut rest = Vec::new();
            input.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, &bytes[140_000..]);
            assert_eq!(input.peek(10).unwrap(), b"");
        }
        assert!(Input::stream(io::empty()).go_to(0).is_err());
    }
}
