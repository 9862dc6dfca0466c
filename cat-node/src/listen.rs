//! `cat-node listen --level`: a level meter in the terminal, to find a place for a microphone by.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::anyhow;
use daemon::cause::cause;
use daemon::shutdown::CancellationToken;
use daemon::terminal::escape;
use proto::SourceState;
use sound::level::{Level, LevelMeter};
use tokio::time::{Instant, sleep};

use crate::config::NodeSettings;
use crate::own_tape::OwnTape;
use crate::tape::{Piece, Want};

/// How often the meter moves in a terminal, and how often a line is written elsewhere.
const STEP: Duration = Duration::from_millis(100);
const LINE_STEP: Duration = Duration::from_secs(1);

/// Level at the left end of the meter, in dBFS. A quiet room is about there.
const LOWEST_DBFS: f32 = -72.0;

/// Characters of the meter: 2 dB each.
const WIDTH: usize = 36;

/// Peaks from here on are too loud, and below here too soft for the hub's health check, in dBFS.
const TOO_LOUD_DBFS: f32 = -1.0;
const TOO_SOFT_DBFS: f32 = -55.0;

/// How long the first sound may take. A microphone that is lost later is waited for.
const FIRST_SOUND_DEADLINE: Duration = Duration::from_secs(10);

/// Shows the level of the source until `stop`, or until a recording ends.
///
/// # Errors
/// If there is no sound within [`FIRST_SOUND_DEADLINE`], the capture thread cannot be started, or standard output
/// cannot be written.
pub async fn show_level(config: NodeSettings, stop: CancellationToken) -> anyhow::Result<()> {
    let OwnTape { reader, status, .. } = &mut OwnTape::start(&config)?;
    let is_terminal = std::io::stdout().is_terminal();
    let step = if is_terminal { STEP } else { LINE_STEP };
    let mut samples = Vec::new();
    let mut loudest_dbfs = f32::NEG_INFINITY;
    let (begun, mut has_sound) = (Instant::now(), false);
    loop {
        tokio::select! {
            () = sleep(step) => {}
            () = stop.cancelled() => return if is_terminal { print("\n") } else { Ok(()) },
        }
        let mut meter = LevelMeter::default();
        while let Some(piece) = reader.read(Want::whole(1), &mut samples) {
            if let Piece::Audio { .. } = piece {
                meter.push(&samples);
            }
        }
        let line = if meter.samples() > 0 {
            has_sound = true;
            let level = meter.level();
            loudest_dbfs = loudest_dbfs.max(level.peak_dbfs);
            line(&level, loudest_dbfs)
        } else {
            format!("no audio: {}", escape(&status.source().detail))
        };
        if !has_sound && begun.elapsed() > FIRST_SOUND_DEADLINE {
            return Err(anyhow!("no sound within {} s: {}", FIRST_SOUND_DEADLINE.as_secs(), status.source().detail));
        }
        // In a terminal the line replaces the one before.
        print(&if is_terminal { format!("\r{line}\x1b[K") } else { format!("{line}\n") })?;
        if status.state() == SourceState::Ended {
            return if is_terminal { print("\n") } else { Ok(()) };
        }
    }
}

/// The meter: `#` up to the level, `|` at the peak.
fn line(level: &Level, loudest_dbfs: f32) -> String {
    let place = |dbfs: f32| {
        let share = (dbfs - LOWEST_DBFS) / -LOWEST_DBFS;
        (share * WIDTH as f32).clamp(0.0, WIDTH as f32) as usize
    };
    let (filled, peak) = (place(level.rms_dbfs), place(level.peak_dbfs));
    let bar: String = (0..WIDTH)
        .map(|at| match at {
            _ if at + 1 == peak => '|',
            _ if at < filled => '#',
            _ => ' ',
        })
        .collect();
    let advice = if loudest_dbfs >= TOO_LOUD_DBFS {
        "too loud: move it away or lower the gain"
    } else if loudest_dbfs < TOO_SOFT_DBFS {
        "too soft: move it closer or raise the gain"
    } else {
        ""
    };
    format!("[{bar}] {:6.1} dBFS, peak {:6.1}, loudest {loudest_dbfs:6.1}  {advice}", level.rms_dbfs, level.peak_dbfs)
        .trim_end()
        .to_owned()
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.map_err(|error| anyhow!("standard output: {}", cause(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(rms_dbfs: f32, peak_dbfs: f32) -> Level {
        let mut level = LevelMeter::default().level();
        (level.rms_dbfs, level.peak_dbfs) = (rms_dbfs, peak_dbfs);
        level
    }

    #[test]
    fn meter_fills_with_the_level_and_says_what_to_do() {
        let half = line(&level(-36.0, -18.0), -18.0);
        let expected = format!("[{}{}|{}]", "#".repeat(18), " ".repeat(8), " ".repeat(9));
        assert!(half.starts_with(&expected) && half.ends_with("loudest  -18.0"), "{half}");
        assert!(line(&level(-6.0, 0.0), 0.0).contains("too loud"));
        assert!(line(&level(-80.0, -60.0), -60.0).contains("too soft"));
        // A silent microphone.
        assert!(line(&level(-120.0, -120.0), -120.0).starts_with(&format!("[{}]", " ".repeat(WIDTH))));
    }
}
