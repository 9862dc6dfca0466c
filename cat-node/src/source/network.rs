//! Sound from the network: a camera (RTSP), or a stream over HTTP.
//!
//! A thread connects, reads and decodes. It hands pieces of sound to the capture thread through a channel with few
//! places, so a source that sends faster than real time is slowed down, and memory is bounded. Closing the source cuts
//! the connection, which ends the thread.

mod http;
mod login;
mod raw;
mod rtsp;

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use daemon::cause::without_number;
use daemon::shutdown::CancellationToken;

use super::interface::{Read, Source, SourceError, SourceFormat};
use super::stream_url::{Scheme, StreamUrl};
use login::Login;

/// How long a source may take from the first packet to the first sound: names, connection, log-in, redirects.
const OPEN_DEADLINE: Duration = Duration::from_secs(6);

/// How long a step of this may take, and how long a stream may pause. The supervisor gives up earlier.
const STEP_DEADLINE: Duration = Duration::from_secs(4);

/// Pieces that wait for the capture thread, at most. The longest piece has 4,096 samples: half a second of one channel
/// at 8 kHz, and less than a tenth of a second at 48 kHz.
const WAITING_PIECES: usize = 32;

/// How far the sound may run ahead of the clock. A server that sends a stock of sound at first, or a file, is read at
/// the speed of the clock.
const LEAD: Duration = Duration::from_millis(300);

/// How far the clock of a source may be from the node's, in parts per million: cheap recorders divide their clocks
/// roughly. The sound is taken this much faster than the clock, so that a stock of it goes down: the 4 s that radios
/// send at first are gone after 200 s.
const DRIFT_PPM: u64 = 20_000;

/// A source that sends its sound as it is made, and whose stock of sound then lasts this long without a break, has a
/// clock that is faster than [`DRIFT_PPM`]. The stock is dropped and reported as lost. Longer than the stock that a
/// pause of the network leaves.
const STOCK_LIMIT: Duration = Duration::from_secs(300);

/// How long after the first sound a source that must be waited for is one that sends its sound as it is made. A file
/// is sent faster.
const LIVE_AFTER: Duration = Duration::from_secs(5);

/// While a stock is dropped: how long the thread may take for the next piece of it.
const NEXT_OF_STOCK: Duration = Duration::from_millis(10);

/// Threads of closed sources that may still wait for a name server. While there are more, no source is opened.
const MOST_THREADS: usize = 8;
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Checks a URL without connecting.
///
/// # Errors
/// One sentence about what is wrong with it.
pub(super) fn check(url: &StreamUrl) -> Result<(), String> {
    match url.scheme() {
        Scheme::Http => raw::RawFormat::of(url).map(|_| ()),
        Scheme::Rtsp | Scheme::RtspUdp => Ok(()),
    }
}

/// Connects to a source and waits for its first sound.
///
/// # Errors
/// [`SourceError::Fatal`] if the URL is wrong, [`SourceError::Refused`] if the source will not give sound until
/// somebody changes its settings, otherwise [`SourceError::Reopen`].
pub(super) fn open(url: &StreamUrl) -> Result<Box<dyn Source>, SourceError> {
    let login = Login::of(url).map_err(SourceError::Fatal)?;
    if THREADS.load(Ordering::Acquire) >= MOST_THREADS {
        let why = format!("{MOST_THREADS} attempts to reach {} have not ended", url.place());
        return Err(SourceError::Reopen(why));
    }
    let (items, received) = sync_channel(WAITING_PIECES);
    let stop = Arc::new(Stop::default());
    let feed = Feed { items, stop: Arc::clone(&stop) };
    let (thread_url, thread_login) = (url.clone(), login.clone());
    let counted = Counted::new();
    let run = move || {
        let _counted = counted;
        let error = match thread_url.scheme() {
            Scheme::Http => http::run(&thread_url, &thread_login, &feed),
            Scheme::Rtsp | Scheme::RtspUdp => rtsp::run(&thread_url, &thread_login, &feed),
        };
        let _ = feed.items.send(Item::Failed(error));
    };
    thread::Builder::new()
        .name("network-source".into())
        .spawn(run)
        .map_err(|error| SourceError::Reopen(format!("cannot start a thread: {}", without_number(error))))?;
    let mut network = Network {
        items: received,
        stop,
        login,
        format: SourceFormat { sample_rate_hz: 1, channels: 1 },
        device: url.place(),
        piece: None,
        started: None,
        passed: 0,
        stock: Stock::new(LIVE_AFTER, STOCK_LIMIT),
        dropped: 0,
        failed: None,
    };
    match network.items.recv_timeout(OPEN_DEADLINE) {
        Ok(Item::Opened(format)) => {
            network.format = format;
            Ok(Box::new(network))
        }
        Ok(Item::Failed(error)) => Err(network.hide(error)),
        Ok(Item::Piece(_)) => Err(SourceError::Reopen("the stream has no format".into())),
        Err(RecvTimeoutError::Timeout) => {
            Err(SourceError::Reopen(format!("{} sent no sound within {} s", url.place(), OPEN_DEADLINE.as_secs())))
        }
        Err(RecvTimeoutError::Disconnected) => {
            Err(SourceError::Reopen(format!("the thread that reads {} has failed", url.place())))
        }
    }
}

/// What the thread hands over.
enum Item {
    /// The stream has this format. Always first.
    Opened(SourceFormat),
    Piece(Piece),
    /// The last item.
    Failed(SourceError),
}

/// A piece of sound.
struct Piece {
    samples: Vec<f32>,
    /// Samples per channel that were lost before it. `Some(0)`: unknown.
    lost: Option<u64>,
}

/// The thread's side.
struct Feed {
    items: SyncSender<Item>,
    stop: Arc<Stop>,
}

impl Feed {
    /// Hands sound over. Waits while the capture thread has enough of it. Returns false if nobody listens any more.
    fn piece(&self, samples: Vec<f32>, lost: Option<u64>) -> bool {
        self.items.send(Item::Piece(Piece { samples, lost })).is_ok()
    }

    fn opened(&self, format: SourceFormat) -> bool {
        self.items.send(Item::Opened(format)).is_ok()
    }
}

/// Ends the thread of a source.
#[derive(Default)]
struct Stop {
    token: CancellationToken,
    socket: Mutex<Option<TcpStream>>,
}

impl Stop {
    /// Registers the connection that is to be cut. Returns false if the source was closed meanwhile.
    fn watch(&self, socket: &TcpStream) -> bool {
        *self.socket.lock().unwrap_or_else(PoisonError::into_inner) = socket.try_clone().ok();
        !self.token.is_cancelled()
    }

    fn stop(&self) {
        self.token.cancel();
        if let Some(socket) = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // An error means that the connection has ended.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Counts a thread for as long as it runs.
struct Counted;

impl Counted {
    fn new() -> Self {
        THREADS.fetch_add(1, Ordering::AcqRel);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        THREADS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The capture thread's side.
struct Network {
    items: Receiver<Item>,
    stop: Arc<Stop>,
    login: Login,
    format: SourceFormat,
    device: String,
    /// A piece that came before its time.
    piece: Option<Piece>,
    /// When the first sound was delivered.
    started: Option<Instant>,
    /// Samples per channel since then.
    passed: u64,
    stock: Stock,
    /// Samples per channel that were dropped before the next piece.
    dropped: u64,
    /// What ended the stream behind the stock that was dropped.
    failed: Option<SourceError>,
}

/// Watches the stock of sound that a source has sent ahead of its time.
struct Stock {
    live_after: Duration,
    limit: Duration,
    /// The source had to be waited for: it sends its sound as it is made, so a stock is a delay.
    live: bool,
    /// Since when there has been a stock.
    since: Option<Instant>,
}

impl Stock {
    fn new(live_after: Duration, limit: Duration) -> Self {
        Self { live_after, limit, live: false, since: None }
    }

    /// There is no stock, this long after the first sound.
    fn is_empty(&mut self, after: Duration) {
        self.live |= after >= self.live_after;
        self.since = None;
    }

    /// There is a stock. Returns whether it has been there for too long.
    fn is_there(&mut self) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.live && since.elapsed() >= self.limit
    }
}

impl Network {
    /// The error without the password, which a server may repeat in its answer.
    fn hide(&self, error: SourceError) -> SourceError {
        let hide = |text: String| self.login.hide(&text);
        match error {
            SourceError::Reopen(why) => SourceError::Reopen(hide(why)),
            SourceError::Refused(why) => SourceError::Refused(hide(why)),
            SourceError::Fatal(why) => SourceError::Fatal(hide(why)),
            SourceError::Stuck(why) => SourceError::Stuck(hide(why)),
        }
    }

    /// How long the next piece must still wait.
    fn early(&self) -> Duration {
        let Some(started) = self.started else { return Duration::ZERO };
        let rate = u128::from(self.format.sample_rate_hz) * u128::from(1_000_000 + DRIFT_PPM) / 1_000_000;
        let due = Duration::from_nanos((u128::from(self.passed) * 1_000_000_000 / rate.max(1)) as u64);
        due.saturating_sub(started.elapsed() + LEAD)
    }

    /// Takes the next item, and notes whether it was there already.
    fn next_item(&mut self, max_wait: Duration) -> Result<Item, RecvTimeoutError> {
        match self.items.try_recv() {
            Ok(item) => {
                if self.stock.is_there() {
                    self.drop_stock(item, max_wait);
                    return Err(RecvTimeoutError::Timeout);
                }
                Ok(item)
            }
            Err(TryRecvError::Empty) => {
                self.stock.is_empty(self.started.map_or(Duration::ZERO, |started| started.elapsed()));
                self.items.recv_timeout(max_wait)
            }
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
        }
    }

    /// Drops what the source has sent ahead, as far as that can be read within `max_wait`.
    fn drop_stock(&mut self, first: Item, max_wait: Duration) {
        let deadline = Instant::now() + max_wait;
        let mut next = Ok(first);
        while let Ok(item) = next {
            match item {
                Item::Opened(_) => {}
                Item::Piece(piece) => self.dropped += self.length_of(&piece),
                Item::Failed(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
            if Instant::now() >= deadline {
                break;
            }
            next = self.items.recv_timeout(NEXT_OF_STOCK);
        }
        self.stock = Stock::new(self.stock.live_after, self.stock.limit);
        (self.started, self.passed) = (None, 0);
    }

    /// Samples per channel of a piece, and of what is known to be lost before it.
    fn length_of(&self, piece: &Piece) -> u64 {
        piece.samples.len() as u64 / u64::from(self.format.channels.max(1)) + piece.lost.unwrap_or(0)
    }
}

impl Source for Network {
    fn format(&self) -> SourceFormat {
        self.format
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn drift_ppm(&self) -> u64 {
        DRIFT_PPM
    }

    fn read(&mut self, samples: &mut Vec<f32>, max_wait: Duration) -> Result<Read, SourceError> {
        if let Some(error) = self.failed.take() {
            return Err(self.hide(error));
        }
        if self.piece.is_none() {
            self.piece = match self.next_item(max_wait) {
                Ok(Item::Piece(mut piece)) => {
                    let dropped = std::mem::take(&mut self.dropped);
                    piece.lost = if dropped > 0 { Some(piece.lost.unwrap_or(0) + dropped) } else { piece.lost };
                    Some(piece)
                }
                Ok(Item::Opened(_)) | Err(RecvTimeoutError::Timeout) => return Ok(Read::Nothing),
                Ok(Item::Failed(error)) => return Err(self.hide(error)),
                Err(RecvTimeoutError::Disconnected) => return Err(SourceError::Reopen("the stream has ended".into())),
            };
        }
        let early = self.early();
        if !early.is_zero() {
            thread::sleep(early.min(max_wait));
            if early > max_wait {
                return Ok(Read::Nothing);
            }
        }
        let Some(piece) = self.piece.take() else { return Ok(Read::Nothing) };
        self.started.get_or_insert_with(Instant::now);
        self.passed += self.length_of(&piece);
        samples.extend_from_slice(&piece.samples);
        Ok(match piece.lost {
            None => Read::Samples,
            Some(lost_samples) => Read::Overrun { lost_samples },
        })
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

#[cfg(test)]
mod tests;
