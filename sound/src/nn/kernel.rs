//! The inner loop of the network: rows of inputs times packed weights, with the widest vectors that the machine has.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

/// Outputs that are computed together. Weights are packed in panels this wide.
const PANEL: usize = 16;

/// Input rows that are computed together, at most. A tile needs at least 8 vectors of sums, better 12, to hide the time
/// that a multiplication takes. With AVX-512 a panel is one vector, so that takes 12 rows. With AVX2 a panel is two
/// vectors, and 6 rows by 16 outputs fill the registers.
const TILE_ROWS: usize = 12;

/// Inputs of a row whose bounds are checked together.
const GROUP: usize = 8;

/// The vector instructions of the machine.
#[derive(Clone, Copy)]
pub(crate) struct Machine(Arch);

impl Machine {
    pub(crate) fn detect() -> Self {
        Self(Arch::new())
    }
}

/// A dense layer: `outputs = weights * inputs + bias`.
pub(crate) struct Dense {
    inputs: usize,
    outputs: usize,
    /// The weights in panels of [`PANEL`] outputs, the last of which is filled up with zeros. Within a panel come the
    /// weights of input 0 for all its outputs, then those of input 1, and so on.
    panels: Vec<f32>,
    bias: Vec<f32>,
}

/// Where the inputs of one output row lie: `count` stretches of `len` values each, whose starts are `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Stretches {
    pub(crate) count: usize,
    pub(crate) len: usize,
    pub(crate) stride: usize,
}

impl Dense {
    /// Packs weights (for each output a row of `inputs` values); `bias` has one value for each output.
    pub(crate) fn new(inputs: usize, weights: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        assert_eq!(weights.len(), inputs * outputs, "weights do not fit the layer");
        let panel_count = outputs.div_ceil(PANEL);
        let mut panels = vec![0.0; panel_count * PANEL * inputs];
        for (output, row) in weights.chunks_exact(inputs).enumerate() {
            let panel = &mut panels[output / PANEL * PANEL * inputs..][..PANEL * inputs];
            for (input, weight) in row.iter().enumerate() {
                panel[input * PANEL + output % PANEL] = *weight;
            }
        }
        let mut padded_bias = bias.to_vec();
        padded_bias.resize(panel_count * PANEL, 0.0);
        Self { inputs, outputs, panels, bias: padded_bias }
    }

    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Computes one output row for each of `starts`, where the first stretch of its inputs begins. Calls `put` with the
    /// number of the row, the number of the first output, and up to [`PANEL`] outputs from there on.
    pub(crate) fn apply(
        &self,
        machine: Machine,
        inputs: &[f32],
        stretches: Stretches,
        starts: &[usize],
        mut put: impl FnMut(usize, usize, &[f32]),
    ) {
        debug_assert_eq!(stretches.count * stretches.len, self.inputs);
        let mut sums = [[0.0; PANEL]; TILE_ROWS];
        for (panel, (weights, bias)) in
            self.panels.chunks_exact(PANEL * self.inputs).zip(self.bias.chunks_exact(PANEL)).enumerate()
        {
            let first_output = panel * PANEL;
            let width = PANEL.min(self.outputs - first_output);
            let mut row = 0;
            while row < starts.len() {
                let tile = Tiles { weights, bias, inputs, stretches, starts: &starts[row..], sums: &mut sums };
                let made = machine.0.dispatch(tile);
                for sums in &sums[..made] {
                    put(row, first_output, &sums[..width]);
                    row += 1;
                }
            }
        }
    }
}

/// Some of the input rows times one panel.
struct Tiles<'a> {
    weights: &'a [f32],
    bias: &'a [f32],
    inputs: &'a [f32],
    stretches: Stretches,
    /// The rows that are left, at least one.
    starts: &'a [usize],
    sums: &'a mut [[f32; PANEL]; TILE_ROWS],
}

impl WithSimd for Tiles<'_> {
    /// How many rows were computed.
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> usize {
        match S::F32_LANES {
            16 => self.take::<S, 1>(simd),
            8 => self.take::<S, 2>(simd),
            4 => self.take::<S, 4>(simd),
            _ => self.take::<S, PANEL>(simd),
        }
    }
}

impl Tiles<'_> {
    /// Computes a tile; `VECTORS` vectors of the machine make a panel. Rows that are too few for the largest tile go
    /// into two tiles of nearly the same size: 8 into 4 and 4.
    #[inline(always)]
    fn take<S: Simd, const VECTORS: usize>(self, simd: S) -> usize {
        match self.starts.len() {
            12 | 20.. if VECTORS == 1 => self.run::<S, VECTORS, 12>(simd),
            8 | 13..20 if VECTORS == 1 => self.run::<S, VECTORS, 8>(simd),
            6 | 10.. => self.run::<S, VECTORS, 6>(simd),
            5 | 9 => self.run::<S, VECTORS, 5>(simd),
            4 | 7 | 8 => self.run::<S, VECTORS, 4>(simd),
            3 => self.run::<S, VECTORS, 3>(simd),
            2 => self.run::<S, VECTORS, 2>(simd),
            _ => self.run::<S, VECTORS, 1>(simd),
        }
    }

    #[inline(always)]
    fn run<S: Simd, const VECTORS: usize, const ROWS: usize>(self, simd: S) -> usize {
        let bias = S::as_simd_f32s(self.bias).0;
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        for row in &mut sums {
            row.copy_from_slice(&bias[..VECTORS]);
        }
        let mut weights = S::as_simd_f32s(self.weights).0.as_chunks::<VECTORS>().0;
        let grouped = self.stretches.len / GROUP * GROUP;
        for stretch in 0..self.stretches.count {
            let from = stretch * self.stretches.stride;
            weights = self.add::<S, VECTORS, ROWS, GROUP>(simd, weights, from..from + grouped, &mut sums);
            let rest = from + grouped..from + self.stretches.len;
            weights = self.add::<S, VECTORS, ROWS, 1>(simd, weights, rest, &mut sums);
        }
        for (out, sums) in self.sums.iter_mut().zip(&sums) {
            S::as_mut_simd_f32s(out).0.copy_from_slice(sums);
        }
        ROWS
    }

    /// Adds the inputs of each row in a range, counted from the start of the row, times their weights. Returns the
    /// weights that follow. The bounds of `GROUP` inputs are checked together. These are loops because a closure that
    /// is not inlined is compiled without the instructions of the machine.
    #[inline(always)]
    fn add<'a, S: Simd, const VECTORS: usize, const ROWS: usize, const GROUP: usize>(
        &self,
        simd: S,
        weights: &'a [[S::f32s; VECTORS]],
        range: Range<usize>,
        sums: &mut [[S::f32s; VECTORS]; ROWS],
    ) -> &'a [[S::f32s; VECTORS]] {
        let (now, later) = weights.split_at(range.len());
        let mut rows: [&[[f32; GROUP]]; ROWS] = [&[]; ROWS];
        for (row, start) in rows.iter_mut().zip(self.starts) {
            *row = self.inputs[start + range.start..start + range.end].as_chunks().0;
        }
        for (group, weights) in now.as_chunks::<GROUP>().0.iter().enumerate() {
            let mut groups = [&[0.0; GROUP]; ROWS];
            for (inputs, row) in groups.iter_mut().zip(rows) {
                *inputs = &row[group];
            }
            for (input, weights) in weights.iter().enumerate() {
                for (sums, inputs) in sums.iter_mut().zip(groups) {
                    let value = simd.splat_f32s(inputs[input]);
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = simd.mul_add_e_f32s(value, *weight, *sum);
                    }
                }
            }
        }
        later
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_plain_sum_for_any_number_of_rows_and_outputs() {
        for len in [GROUP - 1, GROUP, 2 * GROUP + 5] {
            for machine in [Machine::detect(), Machine(Arch::Scalar)] {
                matches_the_plain_sum(machine, len);
            }
        }
    }

    fn matches_the_plain_sum(machine: Machine, len: usize) {
        let (inputs, outputs) = (3 * len, 19);
        let weights: Vec<f32> = (0..inputs * outputs).map(|n| (n as f32 * 0.37).sin()).collect();
        let bias: Vec<f32> = (0..outputs).map(|n| n as f32 * 0.1).collect();
        let data: Vec<f32> = (0..600).map(|n| (n as f32 * 0.91).cos()).collect();
        let dense = Dense::new(inputs, &weights, &bias);
        let stretches = Stretches { count: 3, len, stride: len + 4 };
        for rows in 1..=40 {
            let starts: Vec<usize> = (0..rows).map(|row| row * 13).collect();
            let mut seen = vec![vec![f32::NAN; outputs]; rows];
            dense.apply(machine, &data, stretches, &starts, |row, first, values| {
                seen[row][first..first + values.len()].copy_from_slice(values);
            });
            for (row, start) in starts.iter().enumerate() {
                let gathered: Vec<f32> =
                    (0..3).flat_map(|s| data[start + s * stretches.stride..][..len].to_vec()).collect();
                for output in 0..outputs {
                    let products = weights[output * inputs..][..inputs].iter().zip(&gathered).map(|(w, x)| w * x);
                    let expected = bias[output] + products.sum::<f32>();
                    assert!((seen[row][output] - expected).abs() < 1e-4, "length {len}, row {row}, output {output}");
                }
            }
        }
    }

    /// On machines without AVX-512 there is nothing to compare.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn avx_512_gives_the_same_bits_as_avx2() {
        let (Some(v3), Some(v4)) = (pulp::x86::V3::try_new(), pulp::x86::V4::try_new()) else { return };
        let machines = [Machine(Arch::V3(v3)), Machine(Arch::V4(v4))];
        let (inputs, outputs) = (3 * 21, 40);
        let weights: Vec<f32> = (0..inputs * outputs).map(|n| (n as f32 * 0.37).sin()).collect();
        let data: Vec<f32> = (0..1_000).map(|n| (n as f32 * 0.91).cos()).collect();
        let dense = Dense::new(inputs, &weights, &[0.1; 40]);
        let stretches = Stretches { count: 3, len: 21, stride: 30 };
        for rows in 1..=40 {
            let starts: Vec<usize> = (0..rows).map(|row| row * 13).collect();
            let [narrow, wide] = machines.map(|machine| {
                let mut bits = vec![0; rows * outputs];
                dense.apply(machine, &data, stretches, &starts, |row, first, values| {
                    for (bits, value) in bits[row * outputs + first..].iter_mut().zip(values) {
                        *bits = value.to_bits();
                    }
                });
                bits
            });
            assert_eq!(narrow, wide, "{rows} rows");
        }
    }
}
