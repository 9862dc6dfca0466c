//! Faults and attacks against the real programs, as a table. Start it with `run` in this folder, which explains more.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // A row panics like a test, and the table is printed.

mod audit;
mod rows;
mod sandbox;
mod watch;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rows::{Outcome, ROWS, Row, Scale, Work};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinError, JoinHandle};

/// Exit code for wrong usage.
const USAGE: u8 = 64;

/// Exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(claim) = rows::impostor_claim() {
        return claim.announce_for_ever();
    }
    let (rows, scale) = match arguments() {
        Ok(wanted) => wanted,
        Err(reason) => {
            println!("torture: {reason}");
            return ExitCode::from(USAGE);
        }
    };
    sandbox::prepare();
    let mut interrupt = signal(SignalKind::interrupt()).expect("a handler of SIGINT");
    let mut terminate = signal(SignalKind::terminate()).expect("a handler of SIGTERM");
    let mut counts = [0; 3];
    println!("| row | what is done | what must hold | measured | result |");
    println!("| --- | --- | --- | --- | --- |");
    for together in groups(&rows, scale) {
        let mut at_work: Vec<_> = together.iter().map(|row| tokio::spawn(timed((row.run)(scale)))).collect();
        for (nth, row) in together.iter().enumerate() {
            let ended = tokio::select! {
                ended = &mut at_work[nth] => ended,
                _ = interrupt.recv() => return stop(at_work).await,
                _ = terminate.recv() => return stop(at_work).await,
            };
            let (place, measured, word) = judge(ended);
            counts[place] += 1;
            println!("| {} | {} | {} | {measured} | {word} |", row.name, row.does, row.holds);
        }
    }
    let [passed, failed, skipped] = counts;
    // The last line of any run of tests, which scripts/summary reads.
    println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 || passed == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The rows that run at the same time. The short form saves time: what mostly waits, waits together.
fn groups(rows: &[&'static Row], scale: Scale) -> Vec<Vec<&'static Row>> {
    let (alone, others): (Vec<&'static Row>, Vec<&'static Row>) =
        rows.iter().copied().partition(|row| row.alone || scale == Scale::Full);
    let alone = alone.into_iter().map(|row| vec![row]);
    std::iter::once(others).chain(alone).collect()
}

/// A row at work, and how long it took.
async fn timed(work: Work) -> (Outcome, Duration) {
    let start = Instant::now();
    (work.await, start.elapsed())
}

/// Ends the rows, which ends their programs.
async fn stop(at_work: Vec<JoinHandle<(Outcome, Duration)>>) -> ExitCode {
    at_work.iter().for_each(JoinHandle::abort);
    for work in at_work.into_iter().filter(|work| !work.is_finished()) {
        // The error says that the row was ended.
        let _ = work.await;
    }
    println!("\ninterrupted");
    ExitCode::from(INTERRUPTED)
}

/// The place among the counts, what was measured, and the word for it.
fn judge(ended: Result<(Outcome, Duration), JoinError>) -> (usize, String, &'static str) {
    match ended {
        Ok((Outcome::Held(measured), took)) => (0, format!("{measured} ({} s)", took.as_secs()), "ok"),
        Ok((Outcome::NotRun(why), _)) => (2, format!("not run: {why}"), "not run"),
        Err(error) => (1, reason(error), "FAILED"),
    }
}

/// The message of a panic, on one line.
fn reason(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "the row was ended".into() };
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
    text.unwrap_or_else(|| "a panic without words".into()).replace('\n', " ").replace('|', "/")
}

/// The rows and their size.
fn arguments() -> Result<(Vec<&'static Row>, Scale), String> {
    let (mut scale, mut wanted) = (Scale::Full, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--short" => scale = Scale::Short,
            "--rows" => wanted = Some(words.next().ok_or("--rows takes names of rows, such as kill,disk")?),
            _ => return Err(format!("unknown argument {word:?} (expected --short or --rows)")),
        }
    }
    let Some(wanted) = wanted else { return Ok((ROWS.iter().collect(), scale)) };
    let mut picked = Vec::new();
    for name in wanted.split(',') {
        let before = picked.len();
        picked.extend(ROWS.iter().filter(|row| row.name == name || row.name.starts_with(&format!("{name}-"))));
        if picked.len() == before {
            let names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
            return Err(format!("there is no row {name:?} (there are {})", names.join(", ")));
        }
    }
    Ok((picked, scale))
}
