//! What examples and tests of both programs use, and no program that is shipped.

mod manual;
mod validate;

pub use manual::Manual;
pub use validate::validate;
