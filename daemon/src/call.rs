//! A gRPC call within one deadline. Connecting is tried again until then, so that a call does not fail because the
//! service is just starting. A request that may have been received is never sent again.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, ConnectError, Request, Response, Status};

use crate::backoff::Backoff;

/// First and longest wait before connecting is tried again. Once the service is back, a call must work within a second;
/// the longest wait is well below that.
const AGAIN: (Duration, Duration) = (Duration::from_millis(25), Duration::from_millis(250));

/// Metadata key under which an error carries a word that says exactly what failed.
pub const ERROR_CODE_KEY: &str = "error-code";

/// Why a call failed.
#[derive(Debug)]
pub enum CallError {
    /// There was no connection until the deadline, so the service never got the request.
    NotReached(Status),
    /// The service did not answer before the deadline.
    TooSlow,
    /// The service answered with an error, or the connection broke after the request was sent. Only then the status has
    /// a source.
    Failed(Status),
}

/// Calls until the deadline, which is `limit` from now. `call` gets the time that is left: it sends it on with
/// [`tonic::Request::set_timeout`].
///
/// # Errors
/// If the service cannot be reached, is too slow, or answers with an error.
pub async fn call_within<T, C>(limit: Duration, mut call: impl FnMut(Duration) -> C) -> Result<T, CallError>
where
    C: Future<Output = Result<Response<T>, Status>>,
{
    let deadline = Instant::now() + limit;
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
    let mut not_reached = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match timeout_at(deadline, call(left)).await {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(status)) if was_never_sent(&status) => {
                let wait = backoff.next_wait();
                if Instant::now() + wait >= deadline {
                    return Err(CallError::NotReached(status));
                }
                not_reached = Some(status);
                sleep(wait).await;
            }
            // tonic's client says Cancelled when the timeout of the request has passed.
            Ok(Err(status)) if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) => {
                return Err(CallError::TooSlow);
            }
            Ok(Err(status)) => return Err(CallError::Failed(status)),
            Err(_) => return Err(not_reached.map_or(CallError::TooSlow, CallError::NotReached)),
        }
    }
}

/// Whether a call failed before it was sent, because there was no connection.
fn was_never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// How long the caller of a request waits. The gRPC port sets it in the extensions of a request, because it removes the
/// metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience(pub Duration);

/// How long the caller of a request waits, by what the gRPC port has noted, else by its metadata `grpc-timeout`.
/// `None`: for ever, or the value is invalid.
pub fn patience_of<T>(request: &Request<T>) -> Option<Duration> {
    let noted = request.extensions().get::<Patience>().map(|patience| patience.0);
    noted.or_else(|| timeout_in(request.metadata().get(TIMEOUT)?.to_str().ok()?))
}

/// The metadata that says how long the caller waits.
pub(crate) const TIMEOUT: &str = "grpc-timeout";

/// The time in a value of `grpc-timeout`: up to eight digits and a unit.
pub(crate) fn timeout_in(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count = digits.parse::<u64>().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn answers_and_errors_are_passed_on_and_silence_is_too_slow() {
        let answer = call_within(LIMIT, |left| async move { Ok(Response::new(left)) }).await.unwrap();
        assert_eq!(answer, LIMIT, "the call learns how long it may take");
        let calls = AtomicU32::new(0);
        let refused = call_within(LIMIT, |_| {
            calls.fetch_add(1, Ordering::Relaxed);
            async { Err::<Response<()>, _>(Status::unavailable("not now")) }
        });
        assert!(matches!(refused.await, Err(CallError::Failed(status)) if status.message() == "not now"));
        assert_eq!(calls.load(Ordering::Relaxed), 1, "what may have been received is not sent again");
        let never = call_within(LIMIT, |_| std::future::pending::<Result<Response<()>, Status>>());
        assert!(matches!(never.await, Err(CallError::TooSlow)));
        let cut = call_within(LIMIT, |_| async { Err::<Response<()>, _>(Status::cancelled("Timeout expired")) });
        assert!(matches!(cut.await, Err(CallError::TooSlow)));
    }

    #[test]
    fn patience_of_a_caller_is_read_from_its_metadata() {
        let patience = |value: &'static str| {
            let mut request = Request::new(());
            request.metadata_mut().insert(TIMEOUT, value.parse().unwrap());
            patience_of(&request)
        };
        assert_eq!(patience("1500m"), Some(Duration::from_millis(1500)));
        assert_eq!(patience("2S"), Some(Duration::from_secs(2)));
        assert_eq!(patience("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for odd in ["S", "2", "-1S", "2x", "4294967296S"] {
            assert_eq!(patience(odd), None, "{odd}");
        }
        assert_eq!(patience_of(&Request::new(())), None);
    }
}

#[cfg(test)]
mod fuzz {
    use fuzzing::{hold, nearly_text};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timeout_is_at_most_what_eight_digits_say() {
        hold(3_000, &nearly_text(&["1S", "99999999H", "250m", "7n"], &["0", "H", "-", "+", "ä"]), |text| {
            if let Some(timeout) = timeout_in(&text) {
                prop_assert!(timeout <= Duration::from_secs(99_999_999 * 3_600));
                prop_assert!(text.len() <= 9 && text.is_ascii(), "{text}");
                // What waits for it can add it to the present.
                prop_assert!(Instant::now().checked_add(timeout).is_some());
            }
            Ok(())
        });
    }
}
