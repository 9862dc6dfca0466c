//! What programs write to a terminal, a log or the journal. Foreign text must not forge lines or move the cursor.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::{EXIT_FAILURE, EXIT_USAGE};

/// Replaces control characters, and marks that change the direction of text, with their escapes: `\n`, `\u{1b}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_harmful(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Ends a command that failed: prints why on standard error. Returns the exit code, which differs if the command was
/// used wrongly.
pub fn failed(why: impl Display, is_usage: bool) -> ExitCode {
    // A closed standard error is no reason to fail in another way.
    let _ = writeln!(io::stderr(), "{why}");
    ExitCode::from(if is_usage { EXIT_USAGE } else { EXIT_FAILURE })
}

/// Reads a number of days, such as `90d` or `90`, from 1 to `most`.
///
/// # Errors
/// If the text is not such a number. The error says what is expected.
pub fn days(text: &str, most: u32) -> Result<u32, String> {
    let number = text.strip_suffix('d').unwrap_or(text).parse().ok().filter(|days| (1..=most).contains(days));
    number.ok_or_else(|| format!("\"{text}\" is not a number of days from 1d to {most}d"))
}

fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes each piece that it is given as one line, and escapes what the line has inside. With `colours`, the escape
/// sequences of colours stay; whoever writes them has to escape those of foreign text.
#[derive(Debug)]
pub(crate) struct Lines<W> {
    pub(crate) out: W,
    pub(crate) colours: bool,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(piece);
        let (line, end) = text.strip_suffix('\n').map_or((text.as_ref(), ""), |line| (line, "\n"));
        let mut escaped = String::with_capacity(text.len());
        let mut rest = line;
        while let Some(at) = self.colours.then(|| rest.find("\u{1b}[")).flatten() {
            escaped.push_str(&escape(&rest[..at]));
            let colour = colour_bytes(&rest[at..]);
            if colour == 0 {
                escaped.push_str(&escape("\u{1b}"));
                rest = &rest[at + 1..];
            } else {
                escaped.push_str(&rest[at..at + colour]);
                rest = &rest[at + colour..];
            }
        }
        escaped.push_str(&escape(rest));
        escaped.push_str(end);
        self.out.write_all(escaped.as_bytes())?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Bytes of the sequence that sets a colour at the start of `text`. 0: `text` does not begin with one.
fn colour_bytes(text: &str) -> usize {
    let Some(after) = text.strip_prefix("\u{1b}[") else { return 0 };
    let digits = after.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    if after.as_bytes().get(digits) == Some(&b'm') { 2 + digits + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(colours: bool, text: &str) -> String {
        let mut lines = Lines { out: Vec::new(), colours };
        lines.write_all(text.as_bytes()).unwrap();
        String::from_utf8(lines.out).unwrap()
    }

    #[test]
    fn foreign_text_forges_no_line() {
        assert_eq!(escape("Käthe 🐈"), "Käthe 🐈");
        assert_eq!(escape("a\nb\r\u{1b}[2J\u{202e}"), "a\\nb\\r\\u{1b}[2J\\u{202e}");
        assert_eq!(
            written(false, "node: x\nINFO all is well \u{1b}[2K\u{9b}1A\n"),
            "node: x\\nINFO all is well \\u{1b}[2K\\u{9b}1A\n"
        );
    }

    #[test]
    fn colours_stay_where_they_are_wanted() {
        let line = "\u{1b}[32m INFO\u{1b}[0m a\u{1b}[2Jb\u{1b}\n";
        assert_eq!(written(true, line), "\u{1b}[32m INFO\u{1b}[0m a\\u{1b}[2Jb\\u{1b}\n");
        assert_eq!(written(false, line), "\\u{1b}[32m INFO\\u{1b}[0m a\\u{1b}[2Jb\\u{1b}\n");
    }
}
