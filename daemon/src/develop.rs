//! Code for the examples and tests of both programs. Shipped programs do not contain it.

mod manual;
mod validate;

pub use manual::Manual;
pub use validate::validate;
