//! What a recorder wrote next to the sound.

/// A piece of metadata in the file, such as a GUANO text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The four letters of its chunk: `bext`, `guan`, `LIST`, `wamd`.
    pub id: [u8; 4],
    /// Its content, at most 64 KiB.
    pub content: Vec<u8>,
}

/// Notes with these names are kept.
pub(crate) const KEPT: [&[u8; 4]; 4] = [b"bext", b"guan", b"LIST", b"wamd"];

/// Bytes of a note that are kept.
pub(crate) const MAX_NOTE_BYTES: usize = 64 * 1024;

/// Most notes of a file that are kept.
pub(crate) const MAX_NOTES: usize = 8;
