//! Text from outside: nodes, other roles, whoever is on the network. It goes into queues, the database, the log and the
//! page, so it is short, and it is one line.

/// Longest word or sentence of a node, in bytes of UTF-8: a version, a device, the reason for a gap.
pub const MAX_WORD_BYTES: usize = 300;

/// Longest message of an error of another role, in bytes of UTF-8.
pub const MAX_MESSAGE_BYTES: usize = 1000;

/// Truncates `text` to `max_bytes` of UTF-8, on a character boundary, and replaces what could break or reorder a line:
/// control characters, and marks that change the direction of text.
pub fn clean(text: &str, max_bytes: usize) -> String {
    let mut clean = String::new();
    for character in text.chars() {
        let character = if is_harmful(character) { char::REPLACEMENT_CHARACTER } else { character };
        if clean.len() + character.len_utf8() > max_bytes {
            break;
        }
        clean.push(character);
    }
    clean
}

fn is_harmful(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        for (text, max_bytes, left) in [("Tom", 3, "Tom"), ("Tom", 2, "To"), ("Jürgen", 2, "J"), ("", 0, "")] {
            assert_eq!(clean(text, max_bytes), left, "{text:?} to {max_bytes}");
        }
        assert_eq!(clean(&"x".repeat(4_000_000), MAX_WORD_BYTES).len(), MAX_WORD_BYTES);
    }

    #[test]
    fn text_stays_one_line() {
        assert_eq!(clean("a\nb\u{1b}[31m\r\u{9b}\u{202e}", 99), "a\u{fffd}b\u{fffd}[31m\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(clean("Käthe 🐈", 99), "Käthe 🐈");
    }

    #[test]
    fn replacement_is_counted_too() {
        assert_eq!(clean("\n\n\n", 4), "\u{fffd}");
    }
}

#[cfg(test)]
mod fuzz {
    use fuzzing::{hold, nearly_text};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn any_text_becomes_a_short_line_and_is_cleaned_once() {
        let words = ["\u{1b}[31m", "\r\n", "\u{202e}", "\u{2028}", "\u{85}", "\u{0}", "🐈", "\u{301}"];
        let texts = prop_oneof![nearly_text(&["Tom in the kitchen", "Käthe 🐈\n", ""], &words), any::<String>()];
        hold(3_000, &(texts, 0..100_usize), |(text, most)| {
            let cleaned = clean(&text, most);
            prop_assert!(cleaned.len() <= most);
            prop_assert!(!cleaned.chars().any(is_harmful));
            prop_assert_eq!(clean(&cleaned, most), cleaned.as_str(), "cleaning twice changes nothing");
            if cleaned.chars().count() < text.chars().count() {
                // At most one character is missing where it was cut.
                prop_assert!(cleaned.len() + 4 > most, "cut too early");
            }
            Ok(())
        });
    }
}
