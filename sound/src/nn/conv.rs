//! A streaming two-dimensional convolution (time by band) with ReLU.

use super::kernel::{Dense, Machine, Stretches};

/// Size and step of a convolution. Time is not padded. Bands are padded with zeros when a row is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Channels of the input.
    pub(crate) channels: usize,
    /// Bands of the input without padding.
    pub(crate) bands: usize,
    /// Zero bands on each side.
    pub(crate) band_padding: usize,
    /// Size of the kernel: rows of time, bands.
    pub(crate) kernel: [usize; 2],
    /// Step from one output to the next: rows of time, bands.
    pub(crate) stride: [usize; 2],
    /// Distance between the rows of the kernel, in rows of time.
    pub(crate) dilation: usize,
    /// Whether the input at the middle of the kernel is added to the output.
    pub(crate) residual: bool,
}

impl Shape {
    /// Bands of the output.
    pub(crate) fn bands_out(&self) -> usize {
        (self.bands + 2 * self.band_padding - self.kernel[1]) / self.stride[1] + 1
    }

    /// Input values that one output value depends on.
    pub(crate) fn inputs(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.channels
    }

    /// Values of one input row, padding included.
    fn row(&self) -> usize {
        (self.bands + 2 * self.band_padding) * self.channels
    }

    /// Input rows that one output row spans.
    fn span(&self) -> usize {
        (self.kernel[0] - 1) * self.dilation + 1
    }
}

/// One layer's weights.
pub(crate) struct Conv {
    shape: Shape,
    dense: Dense,
}

/// The input rows of one stream that a layer still needs, ordered time, band (padded), channel.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    rows: Vec<f32>,
}

#[cfg(test)]
impl Pending {
    pub(crate) fn bytes(&self) -> usize {
        self.rows.capacity() * size_of::<f32>()
    }
}

impl Conv {
    /// A convolution whose `dense` computes all channels of one output from the inputs under the kernel, ordered time,
    /// band, channel.
    pub(crate) fn new(shape: Shape, dense: Dense) -> Self {
        Self { shape, dense }
    }

    /// Pads one input row (band, channel) and appends it to the pending ones.
    pub(crate) fn feed(&self, pending: &mut Pending, row: &[f32]) {
        debug_assert_eq!(row.len(), self.shape.bands * self.shape.channels);
        let padding = self.shape.band_padding * self.shape.channels;
        pending.rows.resize(pending.rows.len() + padding, 0.0);
        pending.rows.extend_from_slice(row);
        pending.rows.resize(pending.rows.len() + padding, 0.0);
    }

    /// Computes each output row (band, channel) that the pending input allows, passes it to `on_row`, and drops the
    /// input that no later output needs.
    pub(crate) fn run(
        &self,
        machine: Machine,
        pending: &mut Pending,
        scratch: &mut Scratch,
        mut on_row: impl FnMut(&[f32]),
    ) {
        let shape = &self.shape;
        let rows = pending.rows.len() / shape.row();
        if rows < shape.span() {
            return;
        }
        let count = (rows - shape.span()) / shape.stride[0] + 1;
        let (bands, channels) = (shape.bands_out(), self.dense.outputs());
        scratch.starts.clear();
        for row in 0..count {
            let from = row * shape.stride[0] * shape.row();
            scratch.starts.extend((0..bands).map(|band| from + band * shape.stride[1] * shape.channels));
        }
        scratch.outputs.clear();
        scratch.outputs.resize(count * bands * channels, 0.0);
        let stretches = Stretches {
            count: shape.kernel[0],
            len: shape.kernel[1] * shape.channels,
            stride: shape.dilation * shape.row(),
        };
        let outputs = &mut scratch.outputs;
        self.dense.apply(machine, &pending.rows, stretches, &scratch.starts, |place, first, values| {
            for (out, value) in outputs[place * channels + first..].iter_mut().zip(values) {
                *out = value.max(0.0);
            }
        });
        if shape.residual {
            let middle = shape.span() / 2 * shape.row();
            for (row, out) in outputs.chunks_exact_mut(bands * channels).enumerate() {
                for (out, input) in out.iter_mut().zip(&pending.rows[middle + row * shape.row()..]) {
                    *out += input;
                }
            }
        }
        scratch.outputs.chunks_exact(bands * channels).for_each(&mut on_row);
        pending.rows.drain(..count * shape.stride[0] * shape.row());
    }
}

/// Working memory of [`Conv::run`]. Its content means nothing between calls.
#[derive(Clone, Default)]
pub(crate) struct Scratch {
    starts: Vec<usize>,
    outputs: Vec<f32>,
}
