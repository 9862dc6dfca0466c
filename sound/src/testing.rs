//! Made-up sounds for the tests of other crates.

use crate::context::{ContextModel, Features};
use crate::model::EMBEDDING;
use crate::prosody::PROSODY;

/// A made-up sound: similar to another one with the same `voice`, and different from all others; `take` changes it a
/// little.
pub fn features(voice: u32, take: u32) -> Features {
    let wave =
        |n: usize| (voice as f32 * 2.3 + n as f32 * (1.0 + voice as f32)).sin() + 0.01 * (take as f32 + n as f32).cos();
    Features { prosody: [0.25; PROSODY], embedding: std::array::from_fn::<f32, EMBEDDING, _>(wave) }
}

/// A made-up sound as [`features`] makes it, but far from the mean meow in a direction of its own. What compares
/// directions tells such voices apart.
pub fn distinct(voice: u32, take: u32) -> Features {
    let made = features(voice, take);
    // The difference of zeros from the mean is the negative mean.
    let negative_mean = ContextModel::shipped().difference(&[0.0; EMBEDDING]);
    Features { embedding: std::array::from_fn(|n| made.embedding[n] - negative_mean[n]), ..made }
}
