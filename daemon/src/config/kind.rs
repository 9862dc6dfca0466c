//! The types that a setting can have.

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    /// True, false, or one of these words.
    Switch(Vec<String>),
    Integer,
    Number,
    Text,
    List(Box<Self>),
    /// Tables, or another type that only the file can hold.
    Tables,
}
