//! The trained network. It takes log-mel frames and gives, every 64 ms, the logit of a cat, the logits of some other
//! sounds, and an embedding.
//!
//! The network has six convolutions and one linear layer with 340,000 weights. It runs once for every block of frames
//! ([`BLOCK_FRAMES`] or [`LONG_BLOCK_FRAMES`]), counted from the start of the stream. All streams share a [`Model`];
//! each has a [`Hearing`], which holds its state. `docs/MODEL.md` describes the training; `training/network.py` is the
//! same network in the training framework.

use std::sync::OnceLock;

use thiserror::Error;

use crate::logmel::{BANDS, Frame, HOP_SAMPLES, silent_frame};
use crate::nn::{Conv, Dense, Machine, Pending, Scratch, Shape, Stretches};

/// Length of an embedding.
pub const EMBEDDING: usize = 128;

/// Frames from one answer to the next.
pub const STRIDE_FRAMES: usize = 4;

/// Samples from one answer to the next: 64 ms. Answer `j` is about the time around sample `j * STEP_SAMPLES + 256` and
/// depends on 0.58 s of audio on each side of it.
pub const STEP_SAMPLES: usize = STRIDE_FRAMES * HOP_SAMPLES;

/// Frames that the network takes at once: 0.5 s. Answers come at most this much later than the audio they need.
pub const BLOCK_FRAMES: usize = 32;

/// Frames that the network takes at once where the answers may come late: 2 s. The weights do not fit into the fast
/// caches. With longer blocks they are fetched less often.
pub const LONG_BLOCK_FRAMES: usize = 128;

/// Frames of silence that go before the first frame of a stream, so that answer 0 is about frame 0.
const LEFT_FRAMES: usize = 36;

/// Sounds whose logits the network imitates from a larger one, YAMNet. Each is an index into [`Answer::sound_logits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sound {
    /// Human speech.
    Speech = 0,
    /// A dog.
    Dog = 1,
    /// Any cat.
    Cat = 2,
    /// Purring.
    Purr = 3,
    /// Meowing.
    Meow = 4,
    /// Hissing.
    Hiss = 5,
    /// Caterwauling.
    Caterwaul = 6,
    /// Growling.
    Growl = 7,
    /// A baby crying.
    BabyCry = 8,
}

/// Number of [`Sound`]s.
pub const SOUNDS: usize = 9;

/// The network's output for one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Logit (log-odds) of a cat.
    pub cat_logit: f32,
    /// Logit of each [`Sound`], on the scale of the larger network. A single step says little; average over about a
    /// second.
    pub sound_logits: [f32; SOUNDS],
    /// Output of the last hidden layer, which the context classifiers work on.
    pub embedding: [f32; EMBEDDING],
}

/// Why a weights file cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WeightsError {
    /// The file is not a weights file, or one of another version.
    #[error("not a weights file of this version")]
    Version,
    /// The file has another length than this network needs.
    #[error("the weights file has {found} bytes; the network needs {expected}")]
    Length {
        /// Bytes after the magic.
        found: usize,
        /// Bytes that the network needs.
        expected: usize,
    },
    /// A weight is infinite or not a number. Holds its number within its layer.
    #[error("weight {0} is infinite or not a number")]
    NotFinite(usize),
}

/// The convolutions, each with its number of output channels, as in `training/network.py`.
const LAYERS: [(Shape, usize); 6] = [
    (shape(1, BANDS, 2, [5, 5], [2, 2], 1, false), 24),
    (shape(24, 20, 1, [3, 3], [2, 2], 1, false), 48),
    (shape(48, 10, 1, [3, 3], [1, 2], 1, false), 96),
    (shape(96, 5, 0, [3, 5], [1, 1], 1, false), EMBEDDING),
    (shape(EMBEDDING, 1, 0, [3, 1], [1, 1], 2, true), EMBEDDING),
    (shape(EMBEDDING, 1, 0, [3, 1], [1, 1], 4, true), EMBEDDING),
];

const fn shape(
    channels: usize,
    bands: usize,
    band_padding: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: usize,
    residual: bool,
) -> Shape {
    Shape { channels, bands, band_padding, kernel, stride, dilation, residual }
}

/// First bytes of a weights file.
const MAGIC: &[u8; 8] = b"MEOWNET1";

/// The weights of the network.
pub struct Model {
    layers: Vec<Conv>,
    /// The linear layer. Its output 0 is the logit of a cat, the others those of the [`Sound`]s.
    heads: Dense,
    machine: Machine,
    id: u64,
}

impl Model {
    /// The weights that ship with the program.
    #[must_use]
    pub fn shipped() -> &'static Self {
        static SHIPPED: OnceLock<Model> = OnceLock::new();
        SHIPPED.get_or_init(|| {
            Self::from_bytes(include_bytes!("../weights/model.bin")).expect("a test reads the shipped weights")
        })
    }

    /// Reads a weights file as `training/export.py` writes it.
    ///
    /// The format, all little-endian: 8 bytes `MEOWNET1`, then for each convolution its weights (16-bit floats, ordered
    /// output, time, band, channel) and its biases (32-bit floats), then the same for the linear layer.
    ///
    /// # Errors
    /// If the file is of another version or length, or has a weight that is infinite or not a number.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WeightsError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(WeightsError::Version)?;
        let sizes = LAYERS.iter().map(|(shape, outputs)| (shape.inputs(), *outputs)).chain([(EMBEDDING, 1 + SOUNDS)]);
        let expected = sizes.clone().map(|(inputs, outputs)| outputs * (inputs * 2 + 4)).sum();
        if rest.len() != expected {
            return Err(WeightsError::Length { found: rest.len(), expected });
        }
        let mut rest = rest;
        let mut denses = Vec::new();
        for (inputs, outputs) in sizes {
            let (weights, after) = rest.split_at(inputs * outputs * 2);
            let (bias, after) = after.split_at(outputs * 4);
            rest = after;
            let weights: Vec<f32> =
                weights.chunks_exact(2).map(|pair| from_half(u16::from_le_bytes([pair[0], pair[1]]))).collect();
            let bias: Vec<f32> =
                bias.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect();
            if let Some(place) = weights.iter().chain(&bias).position(|value| !value.is_finite()) {
                return Err(WeightsError::NotFinite(place));
            }
            denses.push(Dense::new(inputs, &weights, &bias));
        }
        let heads = denses.pop().expect("the heads were pushed last");
        let layers = LAYERS.iter().zip(denses).map(|((shape, _), dense)| Conv::new(*shape, dense)).collect();
        Ok(Self { layers, heads, machine: Machine::detect(), id: fnv1a(bytes) })
    }

    /// A hash of the weights. Embeddings of networks with different ids cannot be compared.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Model {
    fn answer(&self, embedding: &[f32]) -> Answer {
        let mut logits = [0.0; 1 + SOUNDS];
        let whole = Stretches { count: 1, len: EMBEDDING, stride: 0 };
        self.heads.apply(self.machine, embedding, whole, &[0], |_, first, values| {
            logits[first..first + values.len()].copy_from_slice(values);
        });
        let [cat_logit, sound_logits @ ..] = logits;
        let embedding = embedding.try_into().expect("the last layer has EMBEDDING channels and one band");
        Answer { cat_logit, sound_logits, embedding }
    }
}

/// 64-bit FNV-1a, <http://www.isthe.com/chongo/tech/comp/fnv/>.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Converts IEEE 754 half precision to single precision.
fn from_half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let fraction = f32::from(bits & 0x3ff);
    match (bits >> 10) & 0x1f {
        0 => sign * fraction * 2_f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        exponent => sign * (1.0 + fraction / 1_024.0) * 2_f32.powi(i32::from(exponent) - 15),
    }
}

/// The state of the network for one stream. Memory use is constant.
#[derive(Clone)]
pub struct Hearing {
    pending: [Pending; LAYERS.len()],
    scratch: Scratch,
    /// The network runs after this many frames.
    block_frames: usize,
    frames: u64,
    answers: u64,
}

impl Hearing {
    /// The state at the start of a stream. Before its first frame the network assumes silence.
    #[must_use]
    pub fn new(model: &Model) -> Self {
        let mut hearing = Self {
            pending: Default::default(),
            scratch: Scratch::default(),
            block_frames: BLOCK_FRAMES,
            frames: 0,
            answers: 0,
        };
        for _ in 0..LEFT_FRAMES {
            model.layers[0].feed(&mut hearing.pending[0], &silent_frame());
        }
        hearing.run(model, &mut |_| {});
        hearing
    }

    /// The network runs once for [`LONG_BLOCK_FRAMES`] frames from now on. Answers are the same and come later, and the
    /// state needs four times the memory.
    #[must_use]
    pub fn in_long_blocks(self) -> Self {
        Self { block_frames: LONG_BLOCK_FRAMES, ..self }
    }

    /// Takes the next frame. After every block of frames the network runs and passes the answers that are due to
    /// `on_answer`, in order.
    pub fn push(&mut self, model: &Model, frame: &Frame, on_answer: &mut impl FnMut(&Answer)) {
        model.layers[0].feed(&mut self.pending[0], frame);
        self.frames += 1;
        if self.frames.is_multiple_of(self.block_frames as u64) {
            self.run(model, on_answer);
        }
    }

    /// Ends the stream, as if silence followed, and passes the answers that are still due to `on_answer`: one for every
    /// [`STRIDE_FRAMES`] frames, rounded up.
    pub fn finish(mut self, model: &Model, on_answer: &mut impl FnMut(&Answer)) {
        let due = self.frames.div_ceil(STRIDE_FRAMES as u64);
        // A long block would be mostly silence.
        self.block_frames = BLOCK_FRAMES;
        let mut made = self.answers;
        while made < due {
            self.push(model, &silent_frame(), &mut |answer| {
                if made < due {
                    on_answer(answer);
                }
                made += 1;
            });
        }
    }

    fn run(&mut self, model: &Model, on_answer: &mut impl FnMut(&Answer)) {
        let last = model.layers.len() - 1;
        for (number, layer) in model.layers.iter().enumerate() {
            let (now, later) = self.pending.split_at_mut(number + 1);
            if number < last {
                let next = &model.layers[number + 1];
                layer.run(model.machine, &mut now[number], &mut self.scratch, |row| next.feed(&mut later[0], row));
            } else {
                layer.run(model.machine, &mut now[number], &mut self.scratch, |row| {
                    self.answers += 1;
                    on_answer(&model.answer(row));
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(model: &Model, frames: &[Frame]) -> Vec<Answer> {
        let mut heard = Vec::new();
        let mut hearing = Hearing::new(model);
        for frame in frames {
            hearing.push(model, frame, &mut |answer| heard.push(answer.clone()));
        }
        hearing.finish(model, &mut |answer| heard.push(answer.clone()));
        heard
    }

    fn frames(count: usize) -> Vec<Frame> {
        (0..count).map(|n| std::array::from_fn(|band| ((n * 7 + band * 3) as f32 * 0.13).sin())).collect()
    }

    #[test]
    fn there_is_one_answer_for_every_four_frames() {
        for count in [0, 1, 4, 5, 31, 32, 33, 100, 319] {
            assert_eq!(
                answers(Model::shipped(), &frames(count)).len(),
                count.div_ceil(STRIDE_FRAMES),
                "{count} frames"
            );
        }
    }

    #[test]
    fn long_blocks_change_no_bit() {
        let model = Model::shipped();
        for count in [0, 1, 33, 127, 128, 129, 300, 1_000] {
            let frames = frames(count);
            let mut long = Vec::new();
            let mut hearing = Hearing::new(model).in_long_blocks();
            for frame in &frames {
                hearing.push(model, frame, &mut |answer| long.push(answer.clone()));
            }
            assert!(long.len() <= count / LONG_BLOCK_FRAMES * (LONG_BLOCK_FRAMES / STRIDE_FRAMES), "{count} frames");
            hearing.finish(model, &mut |answer| long.push(answer.clone()));
            assert_eq!(long, answers(model, &frames), "{count} frames");
        }
    }

    #[test]
    fn other_weights_have_another_id() {
        // From the reference's table of test vectors.
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
        let bytes = include_bytes!("../weights/model.bin");
        let mut others = bytes.to_vec();
        *others.last_mut().unwrap() ^= 1;
        let ids = [&bytes[..], &others].map(|bytes| Model::from_bytes(bytes).unwrap().id());
        assert_eq!(ids[0], Model::shipped().id());
        assert_ne!(ids[0], ids[1]);
    }

    #[test]
    fn memory_of_a_stream_does_not_grow() {
        let model = Model::shipped();
        let mut hearing = Hearing::new(model);
        for (count, frame) in frames(BLOCK_FRAMES * 40).iter().enumerate() {
            hearing.push(model, frame, &mut |_| {});
            let bytes: usize = hearing.pending.iter().map(Pending::bytes).sum();
            assert!(bytes <= 192 * 1_024, "{bytes} bytes after {count} frames");
        }
    }

    #[test]
    fn an_answer_depends_on_no_more_frames_than_documented() {
        let mut changed = frames(400);
        let plain = answers(Model::shipped(), &changed);
        changed[200] = [3.0; BANDS];
        let differs: Vec<usize> = answers(Model::shipped(), &changed)
            .iter()
            .zip(&plain)
            .enumerate()
            .filter(|(_, (a, b))| a != b)
            .map(|(n, _)| n)
            .collect();
        assert_eq!(
            (differs.first(), differs.last()),
            (Some(&41), Some(&59)),
            "frame 200 is within 36 frames of 41 * 4 to 59 * 4"
        );
    }

    #[test]
    fn half_floats_are_read_exactly() {
        for (bits, value) in
            [(0, 0.0), (0x3c00, 1.0), (0xc000, -2.0), (0x7bff, 65_504.0), (1, 2_f32.powi(-24)), (0x3555, 0.333_251_95)]
        {
            assert_eq!(from_half(bits), value);
        }
        assert!(from_half(0x7e00).is_nan());
    }

    #[test]
    fn broken_weights_are_refused() {
        assert_eq!(Model::from_bytes(b"MEOWNET0").err(), Some(WeightsError::Version));
        assert!(matches!(Model::from_bytes(MAGIC).err(), Some(WeightsError::Length { found: 0, .. })));
    }
}
