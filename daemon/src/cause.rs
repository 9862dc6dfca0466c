//! Causes of errors in plain words. All messages about failed connections and files take their words from here.

use std::error::Error;
use std::fmt::Display;
use std::io;

use tokio::time::error::Elapsed;

/// The root cause of an error, in words that a person reads: "connection refused", "timed out", "no such host". Without
/// the operating system's error number.
pub fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    match innermost.downcast_ref::<io::Error>() {
        Some(error) if error.get_ref().is_some_and(|inner| inner.is::<Elapsed>()) => TIMED_OUT.to_owned(),
        Some(error) => io_cause(error),
        None if innermost.is::<Elapsed>() => TIMED_OUT.to_owned(),
        None => without_number(innermost),
    }
}

const TIMED_OUT: &str = "timed out";

/// The error number of Linux for too many symbolic links (ELOOP), which links in a circle give.
const LINK_LOOP: i32 = 40;

fn io_cause(error: &io::Error) -> String {
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset",
        io::ErrorKind::ConnectionAborted => "connection aborted",
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotConnected => "connection closed",
        io::ErrorKind::TimedOut => TIMED_OUT,
        io::ErrorKind::HostUnreachable => "host unreachable",
        io::ErrorKind::NetworkUnreachable => "network unreachable",
        io::ErrorKind::AddrInUse => "address already in use",
        io::ErrorKind::AddrNotAvailable => "address not available on this machine",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::StorageFull => "disk full",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
        io::ErrorKind::IsADirectory => "it is a folder",
        io::ErrorKind::NotADirectory => "a part of the path is not a folder",
        // The kind of this error has no stable name.
        _ if error.raw_os_error() == Some(LINK_LOOP) => "symbolic links lead in a circle",
        // An error that the program itself made, such as "no such host", has words of its own.
        io::ErrorKind::NotFound if error.raw_os_error().is_some() => "no such file or directory",
        _ => return other_io_cause(&error.to_string()),
    };
    words.to_owned()
}

/// The words for a failed name lookup, which has no [`io::ErrorKind`] of its own, or else the error's own words.
fn other_io_cause(text: &str) -> String {
    let Some(why) = text.strip_prefix("failed to lookup address information: ") else { return without_number(text) };
    match why {
        "Temporary failure in name resolution" => "the name server does not answer".to_owned(),
        _ => "no such host".to_owned(),
    }
}

/// The text of an error without the error numbers that the standard library appends: "Connection refused", not
/// "Connection refused (os error 111)".
pub fn without_number(error: impl Display) -> String {
    const MARK: &str = " (os error ";
    let text = error.to_string();
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once(MARK) {
        kept.push_str(before);
        let digits = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
        if let Some(after) = digits.strip_prefix(')') {
            rest = after;
        } else {
            kept.push_str(MARK);
            rest = after;
        }
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_plain_words_without_error_numbers() {
        let words = |error: io::Error| cause(&error);
        assert_eq!(words(io::Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(words(io::Error::from(io::ErrorKind::TimedOut)), "timed out");
        assert_eq!(words(io::Error::from_raw_os_error(2)), "no such file or directory");
        assert_eq!(words(io::Error::from_raw_os_error(71)), "Protocol error");
        assert_eq!(words(std::fs::read("/").unwrap_err()), "it is a folder");
        assert_eq!(words(std::fs::read("/dev/null/x").unwrap_err()), "a part of the path is not a folder");
        let dir = tempfile::tempdir().unwrap();
        let circle = dir.path().join("circle");
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        assert_eq!(words(std::fs::read(&circle).unwrap_err()), "symbolic links lead in a circle");
        let lookup = |why: &str| io::Error::other(format!("failed to lookup address information: {why}"));
        assert_eq!(words(lookup("Name or service not known")), "no such host");
        assert_eq!(words(lookup("Temporary failure in name resolution")), "the name server does not answer");
    }

    #[tokio::test(start_paused = true)]
    async fn wait_that_ended_is_a_connection_that_timed_out() {
        let never = std::future::pending::<()>();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(1), never).await.unwrap_err();
        assert_eq!(cause(&ended), "timed out");
        assert_eq!(cause(&io::Error::other(ended)), "timed out");
    }

    #[test]
    fn numbers_are_left_out_wherever_they_stand() {
        for (said, kept) in [
            ("tape: No space left on device (os error 28); retrying", "tape: No space left on device; retrying"),
            ("a (os error 1) b (os error -2)", "a b"),
            ("(os error 1", "(os error 1"),
            ("a (os error x) b", "a (os error x) b"),
            ("full (disk)", "full (disk)"),
            ("", ""),
        ] {
            assert_eq!(without_number(said), kept);
        }
    }
}
