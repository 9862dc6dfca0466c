//! Words that stand for values in the database and in the API.

use std::fmt;
use std::str::FromStr;

use rusqlite::types::{Type, ValueRef};
use rusqlite::{Row, RowIndex};

/// Defines the word for each value of an enum, in the database and in the API.
macro_rules! words {
    ($type:ty { $($value:pat => $word:literal => $make:expr),+ $(,)? }) => {
        impl $type {
            /// The words for all values, in the order of their definition.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word for this value in the database and in the API.
            pub fn as_str(self) -> &'static str {
                match self { $($value => $word),+ }
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::words::UnknownWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                match word {
                    $($word => Ok($make),)+
                    _ => Err($crate::words::UnknownWord { word: word.into(), known: <$type>::WORDS }),
                }
            }
        }
    };
}

pub(crate) use words;

/// An unrecognised word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct UnknownWord {
    pub(super) word: String,
    pub(super) known: &'static [&'static str],
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown word {:?} (expected one of {})", self.word, self.known.join(", "))
    }
}

/// Reads a column that holds a word.
pub(super) fn word<T: FromStr<Err = UnknownWord>>(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<T> {
    row.get_ref(column)?.as_str()?.parse().map_err(unreadable)
}

/// Reads a column that holds a word or null.
pub(super) fn optional_word<T: FromStr<Err = UnknownWord>>(
    row: &Row<'_>,
    column: impl RowIndex,
) -> rusqlite::Result<Option<T>> {
    if row.get_ref(column)? == ValueRef::Null { Ok(None) } else { word(row, column).map(Some) }
}

pub(super) fn unreadable(error: UnknownWord) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
}
