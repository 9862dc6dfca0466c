//! AAC whose frames come alone, without a container, as cameras send it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::codecs::audio::well_known::CODEC_ID_AAC;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::packet::Packet;

use crate::error::RecordingError;
use crate::format::Format;

/// Decodes frames of AAC.
pub struct AacDecoder {
    decoder: symphonia::default::codecs::AacDecoder,
}

impl AacDecoder {
    /// A decoder for frames of this AudioSpecificConfig (ISO/IEC 14496-3).
    ///
    /// # Errors
    /// If the coding is not supported. AAC-LC is; of HE-AAC the lower half of the frequencies is.
    pub fn open(config: &[u8]) -> Result<Self, RecordingError> {
        let mut parameters = AudioCodecParameters::new();
        parameters.codec = CODEC_ID_AAC;
        parameters.extra_data = Some(config.into());
        let make = || symphonia::default::codecs::AacDecoder::try_new(&parameters, &AudioDecoderOptions::default());
        match catch_unwind(AssertUnwindSafe(make)) {
            Ok(Ok(decoder)) => Ok(Self { decoder }),
            Ok(Err(error)) => Err(RecordingError::Damaged(format!("AAC that cannot be decoded: {error}"))),
            Err(_) => Err(RecordingError::Damaged("AAC that cannot be decoded".into())),
        }
    }

    /// Appends the interleaved samples of one frame, -1 to 1. `None`: it is damaged, and nothing was appended.
    pub fn decode(&mut self, frame: &[u8], out: &mut Vec<f32>) -> Option<Format> {
        let packet = Packet::new(0, 0_i64.into(), 0_u32.into(), frame);
        let mut samples: Vec<f32> = Vec::new();
        let decode = || {
            let buffer = self.decoder.decode(&packet).ok()?;
            buffer.copy_to_vec_interleaved(&mut samples);
            let channels = u16::try_from(buffer.spec().channels().count()).ok().filter(|count| *count > 0)?;
            Some(Format { sample_rate_hz: buffer.spec().rate(), channels })
        };
        let format = catch_unwind(AssertUnwindSafe(decode)).ok().flatten()?;
        out.extend(samples.iter().map(|sample| if sample.is_finite() { *sample } else { 0.0 }));
        Some(format)
    }
}

impl std::fmt::Debug for AacDecoder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("AacDecoder").finish_non_exhaustive()
    }
}
