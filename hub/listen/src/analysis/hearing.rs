//! From the messages of a stream to an analysis: every sample once and in its place, missing samples counted.

use hub_store::analyses::Origin;
use proto::{AudioFrame, Encoding, FRAME_SAMPLES, Gap, ListenResponse, listen_response::Event};
use sound::analysis::{Analysis, Analyzer, Vocalisation};
use sound::detector::DetectorConfig;

/// Most frames that may be missing at once: 100 s, more than an analysis lasts. A message that says more is invalid.
const MOST_LOST_FRAMES: u64 = 5000;

/// Most frames in an audio message, as in the contract.
const MOST_FRAMES: usize = 5;

/// Invalid audio, which no node of this project sends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadAudio {
    /// In an encoding that the hub did not ask for.
    #[error("the node sent audio in an encoding that was not asked for ({0})")]
    Encoding(i32),
    /// Not one to five whole frames.
    #[error("the node sent a frame of {sample_count} samples in {bytes} bytes")]
    Length {
        /// Samples, by the message.
        sample_count: u32,
        /// Bytes in the message.
        bytes: usize,
    },
    /// More frames missing than [`MOST_LOST_FRAMES`].
    #[error("the node left out {0} frames at once")]
    LeftOut(u64),
}

/// Analyses one stream.
pub(super) struct Hearing {
    analyzer: Analyzer,
    /// Boot id, and the number of the next frame.
    expected: Option<(u64, u64)>,
    origin: Option<Origin>,
    heard_samples: u64,
    lost_samples: u64,
}

/// What a stream brought.
pub(super) struct StreamResult {
    /// The result, without the detections.
    pub(super) analysis: Analysis,
    /// The vocalisations, with the features that a cat's own classifier uses.
    pub(super) vocalisations: Vec<Vocalisation>,
    /// Where the first frame or gap lies on the node's tape.
    pub(super) origin: Option<Origin>,
    pub(super) heard_samples: u64,
    pub(super) lost_samples: u64,
}

impl Hearing {
    pub(super) fn new(detector: DetectorConfig) -> Self {
        Self { analyzer: Analyzer::new(detector), expected: None, origin: None, heard_samples: 0, lost_samples: 0 }
    }

    /// Takes the audio of a message. This computes for milliseconds, so it must not run on an async thread.
    ///
    /// # Errors
    /// If the audio is invalid. Audio before it counts.
    pub(super) fn take(&mut self, audio: Vec<ListenResponse>) -> Result<(), BadAudio> {
        for piece in audio {
            match piece.event {
                Some(Event::Frame(frame)) => self.frame(&frame)?,
                Some(Event::Gap(gap)) => self.gap(&gap)?,
                // A kind of event that is newer than this program.
                None => {}
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> StreamResult {
        let (analysis, vocalisations) = self.analyzer.finish_vocalisations();
        StreamResult {
            analysis,
            vocalisations,
            origin: self.origin,
            heard_samples: self.heard_samples,
            lost_samples: self.lost_samples,
        }
    }

    fn frame(&mut self, frame: &AudioFrame) -> Result<(), BadAudio> {
        if frame.encoding != Encoding::PcmS16le as i32 {
            return Err(BadAudio::Encoding(frame.encoding));
        }
        let sample_count = frame.sample_count as usize;
        let whole =
            sample_count.is_multiple_of(FRAME_SAMPLES) && (1..=MOST_FRAMES).contains(&(sample_count / FRAME_SAMPLES));
        if !whole || frame.audio.len() != 2 * sample_count {
            return Err(BadAudio::Length { sample_count: frame.sample_count, bytes: frame.audio.len() });
        }
        let frames = (sample_count / FRAME_SAMPLES) as u64;
        let known = self.reach(frame.boot_id, frame.sequence, frames)?;
        if known < frames {
            let new = &frame.audio[2 * FRAME_SAMPLES * known as usize..];
            let samples: Vec<i16> = new.as_chunks().0.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect();
            self.heard_samples += samples.len() as u64;
            self.analyzer.push(&samples);
        }
        Ok(())
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), BadAudio> {
        // 0 means unknown. The next frame shows where the audio continues.
        if gap.frame_count > 0 {
            let known = self.reach(gap.boot_id, gap.first_sequence, gap.frame_count)?;
            self.lose(gap.frame_count - known.min(gap.frame_count))?;
        }
        Ok(())
    }

    /// Moves to the end of `frames` frames from `sequence` on, and returns how many of them had come before. Frames
    /// that were left out are lost.
    fn reach(&mut self, boot_id: u64, sequence: u64, frames: u64) -> Result<u64, BadAudio> {
        let first_sample = sequence.saturating_mul(FRAME_SAMPLES as u64);
        self.origin.get_or_insert(Origin { boot_id, first_sample });
        let end = sequence.saturating_add(frames);
        let next = match self.expected {
            Some((same, next)) if same == boot_id => next,
            // The first frame, or the node restarted: there is nothing to compare with.
            _ => sequence,
        };
        if sequence > next {
            self.lose(sequence - next)?;
        }
        self.expected = Some((boot_id, end.max(next)));
        Ok(next.saturating_sub(sequence).min(frames))
    }

    fn lose(&mut self, frames: u64) -> Result<(), BadAudio> {
        if frames > MOST_LOST_FRAMES {
            return Err(BadAudio::LeftOut(frames));
        }
        let samples = frames * FRAME_SAMPLES as u64;
        self.lost_samples += samples;
        self.analyzer.push_gap(samples);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::GapReason;

    use super::*;

    fn frame(boot_id: u64, sequence: u64, frames: usize) -> ListenResponse {
        let event = Event::Frame(AudioFrame {
            boot_id,
            sequence,
            sample_count: (frames * FRAME_SAMPLES) as u32,
            audio: vec![1; 2 * frames * FRAME_SAMPLES].into(),
            ..AudioFrame::default()
        });
        ListenResponse { event: Some(event) }
    }

    fn gap(boot_id: u64, first_sequence: u64, frame_count: u64) -> ListenResponse {
        let reason = GapReason::DeviceLost as i32;
        ListenResponse {
            event: Some(Event::Gap(Gap { boot_id, first_sequence, frame_count, reason, detail: String::new() })),
        }
    }

    /// Frames heard, frames lost, and length of the analysis in frames.
    fn hear(pieces: Vec<ListenResponse>) -> (u64, u64, f64) {
        let mut hearing = Hearing::new(DetectorConfig::default());
        hearing.take(pieces).unwrap();
        let heard = hearing.finish();
        let frames = |samples| samples / FRAME_SAMPLES as u64;
        (frames(heard.heard_samples), frames(heard.lost_samples), (heard.analysis.duration_s * 50.0).round())
    }

    #[test]
    fn frames_in_a_row_are_heard_whole() {
        assert_eq!(hear(vec![frame(7, 100, 1), frame(7, 101, 5), frame(7, 106, 1)]), (7, 0, 7.0));
    }

    #[test]
    fn what_comes_twice_counts_once() {
        assert_eq!(hear(vec![frame(7, 0, 2), frame(7, 0, 2), frame(7, 1, 3), frame(7, 2, 1)]), (4, 0, 4.0));
    }

    #[test]
    fn gap_takes_its_time_and_is_counted() {
        assert_eq!(hear(vec![frame(7, 0, 1), gap(7, 1, 10), frame(7, 11, 1)]), (2, 10, 12.0));
    }

    #[test]
    fn gap_over_what_was_heard_counts_the_rest() {
        assert_eq!(hear(vec![frame(7, 0, 4), gap(7, 2, 4), frame(7, 6, 1)]), (5, 2, 7.0));
    }

    #[test]
    fn frames_left_out_without_a_word_are_lost() {
        assert_eq!(hear(vec![frame(7, 0, 1), frame(7, 3, 1)]), (2, 2, 4.0));
    }

    #[test]
    fn other_boot_id_starts_a_new_count() {
        assert_eq!(hear(vec![frame(7, 1000, 1), frame(8, 0, 1)]), (2, 0, 2.0));
    }

    #[test]
    fn audio_that_makes_no_sense_is_refused() {
        let refuse = |change: fn(&mut AudioFrame)| {
            let mut piece = frame(7, 0, 1);
            let Some(Event::Frame(frame)) = &mut piece.event else { unreachable!() };
            change(frame);
            Hearing::new(DetectorConfig::default()).take(vec![piece]).unwrap_err()
        };
        assert_eq!(refuse(|frame| frame.encoding = 1), BadAudio::Encoding(1));
        assert_eq!(refuse(|frame| frame.audio.truncate(639)), BadAudio::Length { sample_count: 320, bytes: 639 });
        assert_eq!(refuse(|frame| frame.sample_count = 0), BadAudio::Length { sample_count: 0, bytes: 640 });
        assert_eq!(
            Hearing::new(DetectorConfig::default()).take(vec![gap(7, 0, u64::MAX)]).unwrap_err(),
            BadAudio::LeftOut(u64::MAX)
        );
        let far = vec![frame(7, 0, 1), frame(7, u64::MAX, 1)];
        assert_eq!(Hearing::new(DetectorConfig::default()).take(far).unwrap_err(), BadAudio::LeftOut(u64::MAX - 1));
    }
}
