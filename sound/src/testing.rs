//! Made-up sounds for the tests of other crates.

use crate::context::Features;
use crate::model::EMBEDDING;
use crate::prosody::PROSODY;

/// A made-up sound: similar to another one with the same `voice`, and different from all others; `take` changes it a
/// little.
pub fn features(voice: u32, take: u32) -> Features {
    let wave =
        |n: usize| (voice as f32 * 2.3 + n as f32 * (1.0 + voice as f32)).sin() + 0.01 * (take as f32 + n as f32).cos();
    Features { prosody: [0.25; PROSODY], embedding: std::array::from_fn::<f32, EMBEDDING, _>(wave) }
}
