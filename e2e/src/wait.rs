//! Waits for a condition, with a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

/// Deadline for what takes milliseconds on an idle machine. A busy machine takes longer.
pub const SOON: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(10);

/// Asks repeatedly until there is an answer, and returns it.
///
/// # Panics
/// After `deadline`. The message names `what` did not happen.
pub async fn until<T, F: Future<Output = Option<T>>>(deadline: Duration, what: &str, mut ask: impl FnMut() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for a future.
///
/// # Panics
/// After `deadline`. The message names `what` did not happen.
pub async fn within<T>(deadline: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(deadline, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {deadline:?}: {what}"),
    }
}
