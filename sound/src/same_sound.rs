//! Whether two nodes heard the same sound.
//!
//! Each event keeps an [`Envelope`]: how the level in a few bands of frequency goes up and down from its start on.
//! Rooms, distances and microphones change level and colour of a sound, but hardly when which band rises and falls. Two
//! events are the same sound if their times overlap within the error of the clocks and their envelopes correlate.

use crate::logmel::{self, HOP_SAMPLES, LogMel, WINDOW_SAMPLES};

/// Bands of an envelope: pairs of the front end's mel bands.
pub const BANDS: usize = logmel::BANDS / 2;

/// Most frames of an envelope. A frame is 16 ms, so an envelope covers the first 1.5 s of an event at most.
pub const MAX_FRAMES: usize = 96;

/// Most bytes of an envelope.
pub const MAX_BYTES: usize = MAX_FRAMES * BANDS;

/// How far the clocks of two nodes may be apart, together with the way of the sound, in nanoseconds: 300 ms.
pub const MAX_CLOCK_ERROR_NS: i64 = 300_000_000;

/// The longest time that an envelope covers, in nanoseconds.
pub const MAX_ENVELOPE_NS: i64 = MAX_FRAMES as i64 * FRAME_NS;

/// Two events whose envelopes correlate at least this much are the same sound. `examples/rooms` measures what it costs.
pub const MIN_SIMILARITY: f32 = 0.7;

/// Step of the stored levels, in units of the front end: 0.43 dB.
const STEP: f32 = 0.025;

/// Levels more than this below the loudest of an envelope are not kept, because noise, echo, another cat or people may
/// cover them: 25 dB, in units of the front end.
const DEPTH: f32 = 1.44;

/// Two envelopes are compared where both have at least this many frames: 96 ms.
const MIN_FRAMES: usize = 6;

const FRAME_NS: i64 = HOP_SAMPLES as i64 * 1_000_000_000 / crate::SAMPLE_RATE_HZ as i64;

/// The level of a sound in [`BANDS`] bands over time, from its start on.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Frame after frame, the lowest band first, in steps of [`STEP`] above [`DEPTH`] below the loudest.
    levels: Vec<u8>,
}

/// An event as far as it is compared with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// When it began, in nanoseconds since 1970 UTC by the clock of its node.
    pub started_at_ns: i64,
    /// When it ended.
    pub ended_at_ns: i64,
    /// Its envelope.
    pub envelope: Envelope,
}

impl std::fmt::Debug for Envelope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Envelope({} frames)", self.frames())
    }
}

impl Envelope {
    /// The envelope of a sound of canonical audio. Audio after the first [`MAX_FRAMES`] frames does not count.
    #[must_use]
    pub fn of(samples: &[i16]) -> Self {
        let used = samples.len().min((MAX_FRAMES - 1) * HOP_SAMPLES + WINDOW_SAMPLES);
        let mut levels: Vec<f32> = Vec::with_capacity(MAX_BYTES.min(used / HOP_SAMPLES * BANDS));
        LogMel::new().push(&samples[..used], |frame| {
            levels.extend(frame.as_chunks().0.iter().map(|[low, high]| f32::midpoint(*low, *high)));
        });
        let floor = levels.iter().copied().fold(f32::MIN, f32::max) - DEPTH;
        let levels = levels.iter().map(|level| ((level - floor) / STEP).round().max(0.0) as u8).collect();
        Self { levels }
    }

    /// Reads what [`Envelope::as_bytes`] gave. `None`: the bytes are no envelope.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let valid = bytes.len().is_multiple_of(BANDS) && bytes.len() <= MAX_BYTES;
        valid.then(|| Self { levels: bytes.to_vec() })
    }

    /// The envelope as bytes, at most [`MAX_BYTES`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.levels
    }

    fn frames(&self) -> usize {
        self.levels.len() / BANDS
    }

    /// How much both correlate where they overlap, -1 to 1, if `other` begins `shift` frames later. `None`: they
    /// overlap in less than [`MIN_FRAMES`], or in less than two thirds of the shorter one.
    fn correlation(&self, other: &Self, shift: i64) -> Option<f32> {
        let (mine, others) = (self.frames(), other.frames());
        let skip = usize::try_from(shift.max(0)).ok()?;
        let skip_other = usize::try_from((-shift).max(0)).ok()?;
        let frames = mine.checked_sub(skip)?.min(others.checked_sub(skip_other)?);
        if frames < MIN_FRAMES || 3 * frames < 2 * mine.min(others) {
            return None;
        }
        let mine = movement(&self.levels[skip * BANDS..][..frames * BANDS]);
        let others = movement(&other.levels[skip_other * BANDS..][..frames * BANDS]);
        let (mut both, mut one, mut two) = (0.0_f32, 0.0_f32, 0.0_f32);
        for (a, b) in mine.iter().zip(&others) {
            both += a * b;
            one += a * a;
            two += b * b;
        }
        // What does not move by a step cannot be compared.
        (one.min(two) >= 1.0).then(|| both / (one * two).sqrt())
    }
}

/// What moves in an envelope: the levels without the mean of their band, which is the colour of room and microphone.
fn movement(levels: &[u8]) -> Vec<f32> {
    let mut moved: Vec<f32> = levels.iter().map(|&level| f32::from(level)).collect();
    let frames = (levels.len() / BANDS) as f32;
    let mut means = [0.0; BANDS];
    for frame in moved.as_chunks::<BANDS>().0 {
        means.iter_mut().zip(frame).for_each(|(mean, level)| *mean += level / frames);
    }
    for frame in moved.as_chunks_mut::<BANDS>().0 {
        frame.iter_mut().zip(&means).for_each(|(level, mean)| *level -= mean);
    }
    moved
}

/// How similar two events are that two nodes heard, -1 to 1: the best correlation of their envelopes within
/// [`MAX_CLOCK_ERROR_NS`]. `None`: their times do not overlap.
#[must_use]
pub fn similarity(one: &Heard, other: &Heard) -> Option<f32> {
    let later_ns = other.started_at_ns.saturating_sub(one.started_at_ns);
    let (first, last) = (later_ns.saturating_sub(MAX_CLOCK_ERROR_NS), later_ns.saturating_add(MAX_CLOCK_ERROR_NS));
    let longest = MAX_FRAMES as i64;
    let shifts = (first / FRAME_NS).clamp(-longest, longest)..=(last / FRAME_NS).clamp(-longest, longest);
    shifts.filter_map(|shift| one.envelope.correlation(&other.envelope, shift)).reduce(f32::max)
}

/// The event among `others` that is the same sound as `event`: the most similar one, if it is similar enough. Returns
/// its place.
pub fn same_sound<'a>(event: &Heard, others: impl IntoIterator<Item = &'a Heard>) -> Option<usize> {
    let scored = others.into_iter().enumerate().filter_map(|(place, other)| Some((place, similarity(event, other)?)));
    let best = scored.max_by(|one, other| one.1.total_cmp(&other.1))?;
    (best.1 >= MIN_SIMILARITY).then_some(best.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a second of a tone that moves between two pitches, as loud as `gain`.
    fn sweep(from_hz: f32, to_hz: f32, gain: f32) -> Vec<i16> {
        let mut phase = 0.0_f32;
        let sample = |n: u16| {
            let part = f32::from(n) / 8_000.0;
            phase += std::f32::consts::TAU * (from_hz + (to_hz - from_hz) * part) / 16_000.0;
            (phase.sin() * gain * (std::f32::consts::PI * part).sin()) as i16
        };
        (0..8_000).map(sample).collect()
    }

    fn heard(samples: &[i16], started_at_ms: i64) -> Heard {
        let (started_at_ns, length_ns) = (started_at_ms * 1_000_000, samples.len() as i64 * 62_500);
        Heard { started_at_ns, ended_at_ns: started_at_ns + length_ns, envelope: Envelope::of(samples) }
    }

    #[test]
    fn envelope_is_bounded_and_survives_its_bytes() {
        for samples in [0, 100, 512, 8_000, 100_000] {
            let envelope = Envelope::of(&vec![1_000; samples]);
            assert!(envelope.as_bytes().len() <= MAX_BYTES);
            assert_eq!(Envelope::from_bytes(envelope.as_bytes()), Some(envelope));
        }
        assert_eq!(Envelope::of(&vec![1_000; 100_000]).as_bytes().len(), MAX_BYTES);
        assert_eq!(Envelope::from_bytes(&[0; BANDS + 1]), None);
        assert_eq!(Envelope::from_bytes(&vec![0; MAX_BYTES + BANDS]), None);
    }

    #[test]
    fn level_and_clocks_do_not_matter() {
        let near = heard(&sweep(500.0, 1_500.0, 12_000.0), 10_000);
        for ahead_ms in [-250, -100, 0, 100, 250] {
            let far = heard(&sweep(500.0, 1_500.0, 1_000.0), 10_000 + ahead_ms);
            let alike = similarity(&near, &far).unwrap();
            assert!(alike > 0.9, "{ahead_ms} ms: {alike}");
            assert_eq!(similarity(&far, &near), Some(alike));
        }
    }

    #[test]
    fn part_of_a_sound_is_the_same_sound() {
        let whole = sweep(500.0, 1_500.0, 12_000.0);
        let (near, far) = (heard(&whole, 0), heard(&whole[2_400..6_400], 150));
        assert!(similarity(&near, &far).unwrap() > 0.9);
    }

    #[test]
    fn other_sounds_other_times_and_silence_are_not_the_same() {
        let one = heard(&sweep(500.0, 1_500.0, 12_000.0), 0);
        assert!(similarity(&one, &heard(&sweep(1_500.0, 500.0, 12_000.0), 0)).unwrap() < MIN_SIMILARITY);
        assert_eq!(similarity(&one, &heard(&sweep(500.0, 1_500.0, 12_000.0), 900)), None);
        assert_eq!(similarity(&one, &heard(&[0; 8_000], 0)), None);
        assert_eq!(similarity(&one, &heard(&[], 0)), None);
        let far_away = Heard { started_at_ns: i64::MIN, ..one.clone() };
        assert_eq!(similarity(&one, &far_away), None);
    }

    #[test]
    fn the_most_similar_of_several_is_the_same_sound() {
        let one = heard(&sweep(500.0, 1_500.0, 12_000.0), 0);
        let others =
            [(1_500.0, 500.0), (500.0, 1_500.0), (300.0, 320.0)].map(|(from, to)| heard(&sweep(from, to, 3_000.0), 50));
        assert_eq!(same_sound(&one, &others), Some(1));
        assert_eq!(same_sound(&one, &others[2..]), None);
        assert_eq!(same_sound(&one, &[]), None);
    }
}
