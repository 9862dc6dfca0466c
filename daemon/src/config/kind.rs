//! The types that a setting can have.

/// The type of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Integer,
    Number,
    Text,
    List(Box<Self>),
    /// Tables, or another type that only the file can hold.
    Tables,
}
