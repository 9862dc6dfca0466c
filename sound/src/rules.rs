//! Cat or not by stated rules: what a meow is, in the terms of [`Measurements`].
//!
//! Ranges after S. Schötz and J. van de Weijer, "A study of human perception of intonation in domestic cat meows" (2014), and
//! N. Nicastro, "Perceptual and acoustic evidence for species-level differences in meow vocalizations" (2004): meows
//! last 0.2 to 2 s, are voiced, have a pitch of 250 to 1200 Hz that moves, and their energy lies at 0.6 to 4 kHz.

use crate::detection::Measurements;

/// A soft interval: 1 within `from..=to`, falling linearly to 0 at `margin` outside.
struct Soft {
    from: f32,
    to: f32,
    margin: f32,
}

impl Soft {
    fn fits(&self, value: f32) -> f32 {
        let outside = (self.from - value).max(value - self.to).max(0.0);
        (1.0 - outside / self.margin).max(0.0)
    }
}

const DURATION_S: Soft = Soft { from: 0.2, to: 2.5, margin: 0.15 };
/// Pitch is judged in octaves above 1 Hz: log2(250) to log2(1200).
const PITCH_OCTAVES: Soft = Soft { from: 7.97, to: 10.23, margin: 0.4 };
/// A steady tone is a machine; a leap of octaves is several sounds.
const PITCH_RANGE_OCTAVES: Soft = Soft { from: 0.12, to: 1.6, margin: 0.1 };
const VOICED_FRACTION: Soft = Soft { from: 0.6, to: 1.0, margin: 0.3 };
const CENTROID_HZ: Soft = Soft { from: 600.0, to: 4000.0, margin: 250.0 };
const SNR_DB: Soft = Soft { from: 9.0, to: f32::INFINITY, margin: 8.0 };

/// How well a sound fits the rules, 0 to 1: the geometric mean of all of them, 0 if one is broken.
pub(crate) fn cat_score(duration_s: f32, measured: &Measurements) -> f32 {
    if measured.pitch_median_hz <= 0.0 {
        return 0.0;
    }
    let fits = [
        DURATION_S.fits(duration_s),
        PITCH_OCTAVES.fits(measured.pitch_median_hz.log2()),
        PITCH_RANGE_OCTAVES.fits((measured.pitch_max_hz / measured.pitch_min_hz).log2()),
        VOICED_FRACTION.fits(measured.voiced_fraction),
        CENTROID_HZ.fits(measured.spectral_centroid_hz),
        SNR_DB.fits(measured.snr_db),
    ];
    fits.iter().product::<f32>().powf(1.0 / fits.len() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meow() -> Measurements {
        Measurements {
            peak_dbfs: -12.0,
            rms_dbfs: -20.0,
            snr_db: 30.0,
            pitch_median_hz: 600.0,
            pitch_min_hz: 450.0,
            pitch_max_hz: 700.0,
            voiced_fraction: 0.9,
            spectral_centroid_hz: 1500.0,
            spectral_flatness: 0.02,
        }
    }

    #[test]
    fn a_textbook_meow_scores_1() {
        assert_eq!(cat_score(0.8, &meow()), 1.0);
    }

    #[test]
    fn each_broken_rule_gives_0() {
        let broken = [
            Measurements { pitch_median_hz: 0.0, ..meow() },
            Measurements { pitch_median_hz: 110.0, ..meow() },
            Measurements { pitch_min_hz: 600.0, pitch_max_hz: 601.0, ..meow() },
            Measurements { voiced_fraction: 0.1, ..meow() },
            Measurements { spectral_centroid_hz: 200.0, ..meow() },
            Measurements { snr_db: 0.0, ..meow() },
        ];
        for measured in broken {
            assert_eq!(cat_score(0.8, &measured), 0.0, "{measured:?}");
        }
        assert_eq!(cat_score(0.03, &meow()), 0.0);
        assert_eq!(cat_score(5.0, &meow()), 0.0);
    }
}
