//! Goes on with an analysis that was interrupted: reads which recordings the results have, and writes behind them.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use daemon::cause::cause;
use serde::Deserialize;

use super::recording::STDIN;

/// Most bytes of a line of the results. The result of a recording with 100,000 vocalisations has half of them.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// How every line of results begins.
const LINE_BEGINS: &[u8] = b"{\"file\":";

/// Why the results cannot be continued.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResumeError {
    #[error("{}: {}", .0.display(), cause(.1))]
    Io(PathBuf, io::Error),
    #[error("{} has something else than results of hub analyze, in line {line}; give another file", path.display())]
    Foreign { path: PathBuf, line: usize },
    #[error(
        "{}, line {line}: {file:?} has no folder, so it may be another recording than the one of that name here; write \
         the folder before it, or give another file",
        path.display()
    )]
    Relative { path: PathBuf, line: usize, file: String },
    #[error("{} is being written by another hub analyze", .0.display())]
    Locked(PathBuf),
}

/// The part of a result that says which recording it is about.
#[derive(Deserialize)]
struct Line {
    file: String,
    /// Why the recording could not be analysed. It is tried again.
    error: Option<String>,
}

/// Results that are continued.
pub(super) struct Results {
    /// The end of the results, to write on.
    pub(super) file: File,
    /// The recordings that the results have.
    done: HashSet<PathBuf>,
}

impl Results {
    /// Opens or creates the results. A last line that is not complete is removed: its program was killed. If recordings
    /// have several lines (`several`), those of the last recording are removed too, as some may be missing.
    pub(super) fn open(path: &Path, several: bool) -> Result<Self, ResumeError> {
        let fail = |error| ResumeError::Io(path.to_path_buf(), error);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(fail)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(ResumeError::Locked(path.to_path_buf())),
            // Some file systems have no locks.
            Err(TryLockError::Error(_)) | Ok(()) => {}
        }
        let mut reader = BufReader::new(&mut file);
        let (mut end, mut last_began) = (0, 0);
        let mut files: Vec<String> = Vec::new();
        let mut bytes = Vec::new();
        for line in 1.. {
            bytes.clear();
            let got = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes).map_err(fail)?;
            if got == 0 {
                break;
            }
            let foreign = || ResumeError::Foreign { path: path.to_path_buf(), line };
            if bytes.last() != Some(&b'\n') {
                // A file of something else must not lose its end.
                let known = LINE_BEGINS.len().min(bytes.len());
                if bytes[..known] != LINE_BEGINS[..known] || got as u64 == MAX_LINE_BYTES {
                    return Err(foreign());
                }
                break;
            }
            let Line { file, error } = serde_json::from_slice(&bytes).map_err(|_| foreign())?;
            // `hub analyze --json` writes names as they were typed, in a folder that is not known here.
            if error.is_none() && file != STDIN && Path::new(&file).is_relative() {
                return Err(ResumeError::Relative { path: path.to_path_buf(), line, file });
            }
            if error.is_none() && files.last() != Some(&file) {
                files.push(file);
                last_began = end;
            }
            end += got as u64;
        }
        if several && files.pop().is_some() {
            end = last_began;
        }
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(fail)?;
        Ok(Self { file, done: files.iter().map(|file| place(Path::new(file))).collect() })
    }

    /// Whether the results have this recording.
    pub(super) fn has(&self, path: &Path) -> bool {
        let place = place(path);
        // Results write names that are not UTF-8 with replacement characters, so two names may look the same.
        path != Path::new(STDIN) && place.to_str().is_some() && self.done.contains(&place)
    }
}

/// The name of a recording in results that are continued: absolute, so that it means the same recording in every
/// folder. Links to folders are resolved. A link to the file is not, because its own name may be a date.
pub(super) fn full_name(path: &Path) -> PathBuf {
    let parent = path.parent().map(|parent| if parent == Path::new("") { Path::new(".") } else { parent });
    match (parent.map(Path::canonicalize), path.file_name()) {
        _ if path == Path::new(STDIN) => path.to_path_buf(),
        (Some(Ok(folder)), Some(name)) => folder.join(name),
        _ => std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()),
    }
}

/// The path without links, so that `./a.wav` is `a.wav`.
fn place(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn line(name: &str) -> String {
        format!("{{\"file\":\"/cards/{name}\",\"duration_s\":1.0}}\n")
    }

    /// What is left of the results after they were opened, and whether they have `a.wav` and `b.wav`.
    fn opened(text: &str, several: bool) -> (String, [bool; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        fs::write(&path, text).unwrap();
        let results = Results::open(&path, several).unwrap();
        (
            fs::read_to_string(&path).unwrap(),
            ["a.wav", "b.wav"].map(|name| results.has(&Path::new("/cards").join(name))),
        )
    }

    #[test]
    fn a_line_that_was_cut_off_is_removed_wherever_it_was_cut() {
        let (whole, last) = (line("a.wav"), line("b.wav"));
        assert_eq!(opened(&format!("{whole}{last}"), false), (format!("{whole}{last}"), [true, true]));
        for length in 0..last.len() {
            let text = format!("{whole}{}", &last[..length]);
            assert_eq!(opened(&text, false), (whole.clone(), [true, false]), "{length} bytes of the last line");
        }
    }

    #[test]
    fn a_recording_with_a_line_a_channel_is_analysed_again_as_a_whole() {
        let text = format!("{}{}{}", line("a.wav"), line("b.wav"), line("b.wav"));
        assert_eq!(opened(&text, true), (line("a.wav"), [true, false]));
        assert_eq!(opened("", true), (String::new(), [false, false]));
    }

    #[test]
    fn a_recording_that_failed_is_tried_again() {
        let text = format!("{{\"file\":\"/cards/a.wav\",\"error\":\"no such file\"}}\n{}", line("b.wav"));
        assert_eq!(opened(&text, false), (text.clone(), [false, true]));
    }

    #[test]
    fn other_files_are_left_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        for text in ["RIFF....WAVE", "file,start_s\na.wav,1\n", "{\"a\":1}\n", "{\"file\":\"/a.wav\"}\nnotes"] {
            let path = dir.path().join("other");
            fs::write(&path, text).unwrap();
            assert!(matches!(Results::open(&path, true), Err(ResumeError::Foreign { .. })), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn results_are_written_by_one_program_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        let mut first = Results::open(&path, false).unwrap();
        assert!(matches!(Results::open(&path, false), Err(ResumeError::Locked(_))));
        first.file.write_all(line("a.wav").as_bytes()).unwrap();
        drop(first);
        assert!(Results::open(&path, false).unwrap().has(Path::new("/cards/a.wav")));
    }

    #[test]
    fn names_without_their_folder_are_refused_and_the_results_are_left_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.jsonl");
        for name in ["a.wav", "./a.wav", "../n1/a.wav", "n1/a.wav"] {
            let text = format!("{}{{\"file\":\"{name}\",\"duration_s\":1.0}}\n", line("b.wav"));
            fs::write(&path, &text).unwrap();
            let error = Results::open(&path, true).err().unwrap();
            assert!(error.to_string().contains(&format!("line 2: {name:?} has no folder")), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        // Neither is left out, so neither is mistaken.
        let text = "{\"file\":\"-\",\"duration_s\":1.0}\n{\"file\":\"a.wav\",\"error\":\"no such file\"}\n";
        assert_eq!(opened(text, false), (text.into(), [false, false]));
    }

    #[test]
    fn full_name_leads_to_the_recording_from_every_folder() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("n1")).unwrap();
        fs::write(root.join("n1/a.wav"), "").unwrap();
        std::os::unix::fs::symlink("n1", root.join("today")).unwrap();
        std::os::unix::fs::symlink("n1/a.wav", root.join("20260725_233000.wav")).unwrap();
        for (typed, full) in [
            ("n1/a.wav", "n1/a.wav"),
            ("n1/../n1/./a.wav", "n1/a.wav"),
            ("today/a.wav", "n1/a.wav"),
            ("20260725_233000.wav", "20260725_233000.wav"),
        ] {
            assert_eq!(full_name(&root.join(typed)), root.join(full), "{typed}");
        }
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        assert_eq!(full_name(Path::new("a.wav")), here.join("a.wav"));
        assert_eq!(full_name(Path::new("no/such/a.wav")), here.join("no/such/a.wav"));
        assert_eq!(full_name(Path::new("-")), Path::new("-"));
    }
}
