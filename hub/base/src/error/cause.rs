//! Causes of errors in plain words.

use std::io;

/// The root cause of an error, in words that a person reads: "connection refused", "timed out", "no such host". Without
/// the operating system's error number.
pub fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.downcast_ref::<io::Error>().map_or_else(|| without_os_error(&innermost.to_string()), io_cause)
}

fn io_cause(error: &io::Error) -> String {
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset",
        io::ErrorKind::ConnectionAborted => "connection aborted",
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotConnected => "connection closed",
        io::ErrorKind::TimedOut => "timed out",
        io::ErrorKind::HostUnreachable => "host unreachable",
        io::ErrorKind::NetworkUnreachable => "network unreachable",
        io::ErrorKind::AddrInUse => "address already in use",
        io::ErrorKind::AddrNotAvailable => "address not available on this machine",
        io::ErrorKind::PermissionDenied => "permission denied",
        io::ErrorKind::StorageFull => "disk full",
        _ => return other_io_cause(&error.to_string()),
    };
    words.to_owned()
}

/// The words for a failed name lookup, which has no [`io::ErrorKind`] of its own, or else the error's own words.
fn other_io_cause(text: &str) -> String {
    let Some(why) = text.strip_prefix("failed to lookup address information: ") else { return without_os_error(text) };
    match why {
        "Temporary failure in name resolution" => "the name server does not answer".to_owned(),
        _ => "no such host".to_owned(),
    }
}

/// Removes the error numbers that the standard library appends: "Connection refused (os error 111)".
pub(super) fn without_os_error(text: &str) -> String {
    const MARK: &str = " (os error ";
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
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
        assert_eq!(words(io::Error::from_raw_os_error(2)), "No such file or directory");
        let lookup = |why: &str| io::Error::other(format!("failed to lookup address information: {why}"));
        assert_eq!(words(lookup("Name or service not known")), "no such host");
        assert_eq!(words(lookup("Temporary failure in name resolution")), "the name server does not answer");
    }
}
