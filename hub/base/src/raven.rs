//! Selection tables of Raven (Cornell Lab of Ornithology), which Audacity and other programs for bioacoustics read too:
//! a line for each sound in a recording, with tabs between the cells.

use sound::SAMPLE_RATE_HZ;

/// Ending of the name of a table, in place of the ending of the recording: Raven saves the first table of `a.wav` as
/// `a.Table.1.selections.txt`.
pub const ENDING: &str = ".Table.1.selections.txt";

/// Columns of a table. Raven needs the first seven and shows the others.
const COLUMNS: [&str; 12] = [
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Annotation",
    "Kind",
    "Score",
    "Context",
    "Pitch (Hz)",
];

/// One sound in a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Channel of the recording, from 1. A mix of all channels is shown in the first.
    pub channel: u16,
    /// Where it begins, in seconds from the start of the recording.
    pub begin_s: f64,
    /// Where it ends, in seconds from the start of the recording.
    pub end_s: f64,
    /// Sample rate of the recording, in hertz. The band of each sound is what was analysed: up to half of this rate,
    /// and no more than canonical audio has.
    pub sample_rate_hz: u32,
    /// What it counts as, such as `waiting_for_food`: what a person labelled it, otherwise the context.
    pub annotation: String,
    /// Kind of sound, such as `meow`. Empty: unknown.
    pub kind: String,
    /// How likely it is a cat, 0 to 1.
    pub score: f32,
    /// The context that was found, such as `waiting_for_food`.
    pub context: String,
    /// Median of the pitch, in hertz. 0: it has no pitch.
    pub pitch_hz: f32,
}

/// The table of a recording. Times have six decimals, which are less than a sample of any recording.
pub fn table(selections: impl IntoIterator<Item = Selection>) -> String {
    let mut text = COLUMNS.join("\t");
    text.push('\n');
    for (selection, number) in selections.into_iter().zip(1..) {
        let Selection { channel, begin_s, end_s, sample_rate_hz, score, pitch_hz, .. } = selection;
        let high_hz = SAMPLE_RATE_HZ.min(sample_rate_hz) / 2;
        let [annotation, kind, context] = [&selection.annotation, &selection.kind, &selection.context].map(|t| cell(t));
        let pitch = if pitch_hz > 0.0 { format!("{pitch_hz:.0}") } else { String::new() };
        text.push_str(&format!(
            "{number}\tSpectrogram 1\t{channel}\t{begin_s:.6}\t{end_s:.6}\t0.0\t{high_hz}.0\t{annotation}\t{kind}\t\
             {score:.4}\t{context}\t{pitch}\n"
        ));
    }
    text
}

/// A text as one cell: tabs and ends of lines become spaces.
fn cell(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_selection_is_one_line_with_a_cell_for_each_column() {
        let selection = |kind: &str, pitch_hz| Selection {
            channel: 2,
            begin_s: 0.5,
            end_s: 1.25,
            sample_rate_hz: 48_000,
            annotation: "brushing".into(),
            kind: kind.into(),
            score: 0.9,
            context: "isolation".into(),
            pitch_hz,
        };
        let phone = Selection { sample_rate_hz: 8_000, ..selection("trill", 0.0) };
        let text = table([selection("meow", 612.4), selection("a\tb\nc", 0.0), phone]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
        assert_eq!(lines[0], COLUMNS);
        let first = "1|Spectrogram 1|2|0.500000|1.250000|0.0|8000.0|brushing|meow|0.9000|isolation|612";
        assert_eq!(lines[1].join("|"), first);
        assert_eq!((lines.len(), lines[2][0], lines[2][8], lines[2].last()), (4, "2", "a b c", Some(&"")));
        assert_eq!((lines[2].len(), lines[3][6]), (COLUMNS.len(), "4000.0"));
    }
}
