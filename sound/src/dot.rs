//! The dot product, by which bands are weighted and embeddings compared.

/// The sum of the products of two vectors of the same length. Eight sums go on next to each other: each addition has to
/// wait for the one before.
#[inline]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len(), "the vectors have the same length");
    let mut sums = [0.0; 8];
    let ((a, last_of_a), (b, last_of_b)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    for ((sum, a), b) in sums.iter_mut().zip(last_of_a).zip(last_of_b) {
        *sum += a * b;
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The length of a vector.
pub(crate) fn length(a: &[f32]) -> f32 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_sums_add_up_to_one_whatever_the_length() {
        let numbers = |seed: u32, count: u32| -> Vec<f32> {
            (0..count).map(|n| (n.wrapping_mul(seed) % 101) as f32 / 50.0 - 1.0).collect()
        };
        for count in [0, 1, 7, 8, 9, 16, 23, 128] {
            let (a, b) = (numbers(37, count), numbers(53, count));
            let plain: f64 = a.iter().zip(&b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(dot(&a, &b)) - plain).abs() < 1e-5, "{count} numbers: {} and {plain}", dot(&a, &b));
        }
    }

    #[test]
    fn length_is_that_of_pythagoras() {
        assert_eq!((length(&[3.0, 0.0, -4.0]), length(&[])), (5.0, 0.0));
    }
}
