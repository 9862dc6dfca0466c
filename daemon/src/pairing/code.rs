//! The code that a person carries.

use std::fmt;
use std::str::FromStr;

use rand::RngExt;

/// Symbols of a code: 8 of 32, so 40 bits. Five guesses in ten minutes hit it once in 200 thousand million.
const SYMBOLS: usize = 8;

/// Crockford's base 32: no I, L, O and U, which people misread.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A code of eight symbols, shown as `7K3M-Q9TX`.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; SYMBOLS]);

/// A text is not a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pairing code has eight letters and digits, such as 7K3M-Q9TX")]
pub struct NotACode;

impl Code {
    /// A code that nobody can guess.
    pub fn random() -> Self {
        let mut rng = rand::rng();
        Self(std::array::from_fn(|_| ALPHABET[rng.random_range(0..ALPHABET.len())]))
    }

    /// The symbols, without the dash.
    pub(super) fn symbols(&self) -> &[u8; SYMBOLS] {
        &self.0
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, symbol) in self.0.iter().enumerate() {
            let dash = if place == SYMBOLS / 2 { "-" } else { "" };
            write!(f, "{dash}{}", char::from(*symbol))?;
        }
        Ok(())
    }
}

/// Logs do not show codes.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(***)")
    }
}

impl FromStr for Code {
    type Err = NotACode;

    /// Reads a code as people type it: in either case, with or without dashes and spaces, with O for 0 and I or L
    /// for 1.
    fn from_str(text: &str) -> Result<Self, NotACode> {
        let typed = text.chars().filter(|symbol| !matches!(symbol, '-' | ' '));
        let read = typed.map(|symbol| {
            let symbol = match symbol.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                symbol => symbol,
            };
            u8::try_from(symbol).ok().filter(|symbol| ALPHABET.contains(symbol)).ok_or(NotACode)
        });
        // One more than a code has is enough to see that there are too many.
        let symbols = read.take(SYMBOLS + 1).collect::<Result<Vec<u8>, _>>()?;
        symbols.try_into().map(Self).map_err(|_| NotACode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_read_as_people_type_it() {
        let code = Code(*b"7K3M01TX");
        assert_eq!(code.to_string(), "7K3M-01TX");
        for typed in ["7K3M-01TX", "7k3moltx", " 7K3M oItx ", "7-K-3-M-0-1-T-X"] {
            assert_eq!(typed.parse(), Ok(code.clone()), "{typed}");
        }
        for typed in ["", "7K3M-01T", "7K3M-01TXX", "7K3M-01TU", "7K3M_01TX", "7K3M-01TÄ"] {
            assert_eq!(typed.parse::<Code>(), Err(NotACode), "{typed}");
        }
    }

    #[test]
    fn codes_differ_and_logs_do_not_show_them() {
        let (one, other) = (Code::random(), Code::random());
        assert_ne!(one, other);
        assert_eq!(one.to_string().parse(), Ok(one.clone()));
        assert_eq!(format!("{one:?}"), "Code(***)");
    }
}
