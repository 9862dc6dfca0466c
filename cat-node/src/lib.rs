//! The device daemon of Meowlink, as a library, so that a test starts the real thing: sources of audio, the capture thread,
//! the tape of numbered frames and the `cat` service that streams them.

pub mod clock;
pub mod source;
pub mod status;
pub mod tape;
