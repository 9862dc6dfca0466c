//! A thread that opens something, keeps it, and closes it, and that is abandoned if it hangs.
//!
//! Sound libraries wait for their server without a deadline. Opening a stream may never return, and so may dropping it,
//! above all when its server was killed. With a keeper, the caller sets a deadline for both.

use daemon::cause::without_number;
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU8, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How many threads of one kind hang now.
pub(super) type Abandoned = AtomicIsize;

const KEEPING: u8 = 0;
const ABANDONED: u8 = 1;
const GONE: u8 = 2;

/// Why nothing was opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeepError<E> {
    /// It could not be opened.
    #[error("{0}")]
    Open(E),
    /// Opening took longer than the deadline. Its thread was abandoned.
    #[error("timed out")]
    TimedOut,
    /// The system could not start the thread, or the thread panicked.
    #[error("{0}")]
    Thread(String),
}

/// Holds what a thread has opened. Dropping it makes the thread close that, and waits for it at most `close_deadline`.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Dropping this makes the thread close what it has opened.
    release: Option<mpsc::Sender<()>>,
    gone: mpsc::Receiver<()>,
    leave: Leave,
    close_deadline: Duration,
}

/// Counts a thread as abandoned for as long as it hangs.
#[derive(Debug, Clone)]
struct Leave {
    state: Arc<AtomicU8>,
    abandoned: &'static Abandoned,
}

impl Leave {
    fn abandon(&self) {
        // Counted before the state changes, so that the thread, when it ends, always finds itself counted.
        self.abandoned.fetch_add(1, Ordering::AcqRel);
        if self.state.compare_exchange(KEEPING, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_err() {
            self.abandoned.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Marks the thread as gone, even if it panics.
struct Gone(Leave);

impl Drop for Gone {
    fn drop(&mut self) {
        if self.0.state.swap(GONE, Ordering::AcqRel) == ABANDONED {
            self.0.abandoned.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Calls `open` on a new thread called `name`. `open` returns what to hand to the caller and what to keep on the
/// thread. Waits for it at most `open_deadline`. A thread that opens later than that closes at once.
pub(super) fn keep<Info, Kept, E>(
    name: &str,
    abandoned: &'static Abandoned,
    open_deadline: Duration,
    close_deadline: Duration,
    open: impl FnOnce() -> Result<(Info, Kept), E> + Send + 'static,
) -> Result<(Info, Keeper), KeepError<E>>
where
    Info: Send + 'static,
    E: Send + 'static,
{
    let leave = Leave { state: Arc::new(AtomicU8::new(KEEPING)), abandoned };
    let (opened_in, opened) = mpsc::sync_channel(1);
    let (release, released) = mpsc::channel::<()>();
    let (gone_in, gone) = mpsc::channel::<()>();
    let gone_guard = Gone(leave.clone());
    let run = move || {
        // Dropped in reverse order: first what was kept, then the guards that report the end of the thread.
        let _gone_in = gone_in;
        let _gone = gone_guard;
        match open() {
            Ok((info, kept)) => {
                let _kept = kept;
                if opened_in.send(Ok(info)).is_ok() {
                    // Nothing is ever sent. This waits until the keeper drops the sender.
                    let _ = released.recv();
                }
            }
            Err(error) => {
                let _ = opened_in.send(Err(error));
            }
        }
    };
    thread::Builder::new().name(name.into()).spawn(run).map_err(|error| KeepError::Thread(without_number(error)))?;
    match opened.recv_timeout(open_deadline) {
        Ok(Ok(info)) => Ok((info, Keeper { release: Some(release), gone, leave, close_deadline })),
        Ok(Err(error)) => Err(KeepError::Open(error)),
        Err(RecvTimeoutError::Timeout) => {
            leave.abandon();
            Err(KeepError::TimedOut)
        }
        Err(RecvTimeoutError::Disconnected) => Err(KeepError::Thread("the thread that opens it panicked".into())),
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.release = None;
        if self.gone.recv_timeout(self.close_deadline) == Err(RecvTimeoutError::Timeout) {
            self.leave.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(10);
    const GENEROUS: Duration = Duration::from_secs(60);

    /// Blocks in its drop until the sender is dropped.
    struct Hangs(mpsc::Receiver<()>);

    impl Drop for Hangs {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }

    fn wait_for(abandoned: &'static Abandoned, count: isize) {
        let deadline = std::time::Instant::now() + GENEROUS;
        while abandoned.load(Ordering::Acquire) != count {
            assert!(std::time::Instant::now() < deadline, "still {abandoned:?} threads, not {count}");
            thread::yield_now();
        }
    }

    #[test]
    fn kept_thing_lives_until_the_keeper_is_dropped() {
        static ABANDONED: Abandoned = Abandoned::new(0);
        let (dropped_in, dropped) = mpsc::channel::<()>();
        let (info, keeper) = keep("test", &ABANDONED, GENEROUS, GENEROUS, || Ok::<_, ()>((7, dropped_in))).unwrap();
        assert_eq!(info, 7);
        assert_eq!(dropped.try_recv(), Err(mpsc::TryRecvError::Empty));
        drop(keeper);
        assert_eq!(dropped.try_recv(), Err(mpsc::TryRecvError::Disconnected));
        assert_eq!(ABANDONED.load(Ordering::Acquire), 0);
    }

    #[test]
    fn failed_open_gives_its_error() {
        static ABANDONED: Abandoned = Abandoned::new(0);
        let error = keep("test", &ABANDONED, GENEROUS, GENEROUS, || Err::<((), ()), _>("busy")).unwrap_err();
        assert_eq!(error, KeepError::Open("busy"));
    }

    #[test]
    fn panic_in_open_is_an_error() {
        static ABANDONED: Abandoned = Abandoned::new(0);
        let open = || -> Result<((), ()), ()> { panic!("on purpose") };
        let error = keep("test", &ABANDONED, GENEROUS, GENEROUS, open).unwrap_err();
        assert!(matches!(error, KeepError::Thread(_)), "{error:?}");
    }

    #[test]
    fn thread_that_hangs_in_closing_is_counted_until_it_ends() {
        static ABANDONED: Abandoned = Abandoned::new(0);
        let (go_on, blocked) = mpsc::channel::<()>();
        let (_, keeper) = keep("test", &ABANDONED, GENEROUS, SOON, || Ok::<_, ()>(((), Hangs(blocked)))).unwrap();
        drop(keeper);
        assert_eq!(ABANDONED.load(Ordering::Acquire), 1);
        drop(go_on);
        wait_for(&ABANDONED, 0);
    }

    #[test]
    fn thread_that_hangs_in_opening_is_counted_and_closes_when_it_comes_back() {
        static ABANDONED: Abandoned = Abandoned::new(0);
        let (go_on, blocked) = mpsc::channel::<()>();
        let (dropped_in, dropped) = mpsc::channel::<()>();
        let open = move || {
            let _ = blocked.recv();
            Ok::<_, ()>(((), dropped_in))
        };
        assert_eq!(keep("test", &ABANDONED, SOON, GENEROUS, open).unwrap_err(), KeepError::TimedOut);
        assert_eq!(ABANDONED.load(Ordering::Acquire), 1);
        drop(go_on);
        wait_for(&ABANDONED, 0);
        assert_eq!(dropped.recv(), Err(mpsc::RecvError));
    }
}
