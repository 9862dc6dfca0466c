//! What a command captures by itself, without the service.

use std::sync::Arc;

use anyhow::anyhow;
use daemon::cause::without_number;
use daemon::shutdown::{CancellationToken, DropGuard};
use sound::SAMPLE_RATE_HZ;

use crate::capture;
use crate::clock::NodeClock;
use crate::config::NodeSettings;
use crate::status::Status;
use crate::tape::Tape;
use crate::tape::reader::Reader;

/// Memory of the tape: ten seconds of audio, which is read at once.
const TAPE_BYTES: usize = 10 * 2 * SAMPLE_RATE_HZ as usize;

/// A capture of the configured source on a tape of its own. It ends when this is dropped.
pub(crate) struct OwnTape {
    /// Reads the tape from its start.
    pub(crate) reader: Reader,
    /// The condition of the source.
    pub(crate) status: Arc<Status>,
    _stop_at_drop: DropGuard,
}

impl OwnTape {
    /// Begins to capture.
    ///
    /// # Errors
    /// If the capture thread cannot be started.
    pub(crate) fn start(config: &NodeSettings) -> anyhow::Result<Self> {
        let tape = Arc::new(Tape::new(NodeClock::start(), TAPE_BYTES));
        let status = Arc::new(Status::new(config.source.kind()));
        let reader = Reader::at(&tape, 0);
        let stop = CancellationToken::new();
        let stop_at_drop = stop.clone().drop_guard();
        capture::spawn(config.audio_source(), tape, Arc::clone(&status), config.capture(), stop)
            .map_err(|error| anyhow!("cannot start the capture thread: {}", without_number(error)))?;
        Ok(Self { reader, status, _stop_at_drop: stop_at_drop })
    }
}
