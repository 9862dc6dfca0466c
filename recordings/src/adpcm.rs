//! The two kinds of ADPCM that WAV files have: IMA (DVI) and Microsoft's. Each block begins with its own state.

/// Steps of IMA ADPCM.
const IMA_STEPS: [i32; 89] = [
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88, 97, 107,
    118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658, 724, 796, 876, 963,
    1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660, 4026, 4428, 4871, 5358, 5894,
    6484, 7132, 7845, 8630, 9493, 10442, 11487, 12635, 13899, 15289, 16818, 18500, 20350, 22385, 24623, 27086, 29794,
    32767,
];

/// How a code changes the place in [`IMA_STEPS`].
const IMA_MOVES: [i32; 8] = [-1, -1, -1, -1, 2, 4, 6, 8];

/// How a code changes the step of Microsoft's ADPCM, in 1/256.
const ADAPTATION: [i32; 16] = [230, 230, 230, 230, 307, 409, 512, 614, 768, 614, 512, 409, 307, 230, 230, 230];

/// The predictors of Microsoft's ADPCM, in 1/256.
const PREDICTORS: [(i32, i32); 7] = [(256, 0), (512, -256), (0, 0), (192, 64), (240, 0), (460, -208), (392, -232)];

/// Frames in a block of this many bytes.
pub(crate) fn ima_frames(bytes: usize, channels: usize) -> usize {
    match bytes.checked_sub(4 * channels) {
        Some(codes) => 1 + codes / (4 * channels) * 8,
        None => 0,
    }
}

/// Frames in a block of this many bytes.
pub(crate) fn microsoft_frames(bytes: usize, channels: usize) -> usize {
    match bytes.checked_sub(7 * channels) {
        Some(codes) => 2 + codes * 2 / channels,
        None => 0,
    }
}

/// Decodes a block of IMA ADPCM. The codes come in words of 8 for each channel in turn.
pub(crate) fn ima(block: &[u8], channels: usize, out: &mut Vec<f32>) {
    let frames = ima_frames(block.len(), channels);
    if frames == 0 {
        return;
    }
    let begin = out.len();
    out.resize(begin + frames * channels, 0.0);
    let (heads, codes) = block.split_at(4 * channels);
    for (channel, head) in heads.chunks_exact(4).enumerate() {
        let mut value = i32::from(i16::from_le_bytes([head[0], head[1]]));
        let mut place = i32::from(head[2]).min(88);
        out[begin + channel] = normal(value);
        let words = codes.chunks_exact(4 * channels).map(|words| &words[4 * channel..4 * channel + 4]);
        let nibbles = words.flatten().flat_map(|byte| [byte & 15, byte >> 4]);
        for (frame, code) in nibbles.enumerate() {
            let step = IMA_STEPS[place as usize];
            let mut change = step >> 3;
            for (bit, shift) in [(4, 0), (2, 1), (1, 2)] {
                change += if code & bit != 0 { step >> shift } else { 0 };
            }
            value = (value + if code & 8 != 0 { -change } else { change }).clamp(-32_768, 32_767);
            place = (place + IMA_MOVES[usize::from(code & 7)]).clamp(0, 88);
            out[begin + (frame + 1) * channels + channel] = normal(value);
        }
    }
}

/// Decodes a block of Microsoft's ADPCM.
pub(crate) fn microsoft(block: &[u8], channels: usize, out: &mut Vec<f32>) {
    let frames = microsoft_frames(block.len(), channels);
    if frames == 0 {
        return;
    }
    let (head, codes) = block.split_at(7 * channels);
    let word = |index: usize, channel: usize| {
        let at = channels + 2 * (index * channels + channel);
        i32::from(i16::from_le_bytes([head[at], head[at + 1]]))
    };
    let mut states: Vec<_> = (0..channels)
        .map(|channel| State {
            predictor: PREDICTORS[usize::from(head[channel]).min(PREDICTORS.len() - 1)],
            step: word(0, channel).max(16),
            last: word(1, channel),
            before: word(2, channel),
        })
        .collect();
    out.extend(states.iter().map(|state| normal(state.before)));
    out.extend(states.iter().map(|state| normal(state.last)));
    let nibbles = codes.iter().flat_map(|byte| [byte >> 4, byte & 15]).take((frames - 2) * channels);
    for (number, code) in nibbles.enumerate() {
        out.push(normal(states[number % channels].next(code)));
    }
}

struct State {
    predictor: (i32, i32),
    step: i32,
    last: i32,
    before: i32,
}

impl State {
    fn next(&mut self, code: u8) -> i32 {
        let predicted = (self.last * self.predictor.0 + self.before * self.predictor.1) / 256;
        let signed = if code & 8 != 0 { i32::from(code) - 16 } else { i32::from(code) };
        let value = (predicted + signed * self.step).clamp(-32_768, 32_767);
        // The bounds keep a damaged file from overflowing.
        self.step = (self.step * ADAPTATION[usize::from(code & 15)] / 256).clamp(16, 1 << 20);
        (self.before, self.last) = (self.last, value);
        value
    }
}

fn normal(value: i32) -> f32 {
    value as f32 / 32_768.0
}
