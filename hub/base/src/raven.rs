//! Selection tables of Raven (Cornell Lab of Ornithology), which Audacity and other programs for bioacoustics read too:
//! a line for each sound in a recording, with tabs between the cells.

use sound::SAMPLE_RATE_HZ;

/// Ending of the name of a table. Raven finds the table of `a.wav` as `a.Table.1.selections.txt`.
pub const ENDING: &str = ".Table.1.selections.txt";

/// Columns of a table. Raven needs the first seven and shows the others.
const COLUMNS: [&str; 10] = [
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
];

/// One sound in a recording.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Where it begins, in seconds from the start of the recording.
    pub begin_s: f64,
    /// Where it ends, in seconds from the start of the recording.
    pub end_s: f64,
    /// What it is, such as `waiting_for_food`.
    pub annotation: String,
    /// Kind of sound, such as `meow`. Empty: unknown.
    pub kind: String,
    /// How likely it is a cat, 0 to 1.
    pub score: f32,
}

/// The table of a recording of one channel. The band of each sound is that of canonical audio.
pub fn table(selections: impl IntoIterator<Item = Selection>) -> String {
    let mut text = COLUMNS.join("\t");
    text.push('\n');
    for (selection, number) in selections.into_iter().zip(1..) {
        let Selection { begin_s, end_s, annotation, kind, score } = selection;
        let high_hz = SAMPLE_RATE_HZ / 2;
        let (annotation, kind) = (cell(&annotation), cell(&kind));
        text.push_str(&format!(
            "{number}\tSpectrogram 1\t1\t{begin_s:.6}\t{end_s:.6}\t0.0\t{high_hz}.0\t{annotation}\t{kind}\t{score:.4}\n"
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
        let selection = |kind: &str| Selection {
            begin_s: 0.5,
            end_s: 1.25,
            annotation: "brushing".into(),
            kind: kind.into(),
            score: 0.9,
        };
        let text = table([selection("meow"), selection("a\tb\nc")]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
        assert_eq!(lines[0], COLUMNS);
        let first = ["1", "Spectrogram 1", "1", "0.500000", "1.250000", "0.0", "8000.0", "brushing", "meow", "0.9000"];
        assert_eq!(lines[1], first);
        assert_eq!((lines.len(), lines[2][0], lines[2][8]), (3, "2", "a b c"));
    }
}
