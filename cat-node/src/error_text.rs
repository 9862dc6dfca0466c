//! Errors of the operating system as text for people.

use std::fmt::Display;

/// The text of an error without the error number of the operating system: "Connection refused", not "Connection refused
/// (os error 111)".
pub(crate) fn without_number(error: impl Display) -> String {
    let mut text = error.to_string();
    while let Some(start) = text.find(NUMBER_START) {
        let Some(length) = text[start..].find(')') else { break };
        text.replace_range(start..=start + length, "");
    }
    text
}

const NUMBER_START: &str = " (os error ";

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn number_is_left_out_wherever_it_stands() {
        let error = io::Error::from_raw_os_error(111);
        assert_eq!(without_number(&error), "Connection refused");
        assert_eq!(without_number(format!("a: {error}; b: {error}.")), "a: Connection refused; b: Connection refused.");
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in ["", "full (os error", "full (disk)"] {
            assert_eq!(without_number(text), text);
        }
    }
}
