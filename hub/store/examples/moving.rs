//! Measures how long other writes wait while the history of a replaced node moves: 100,000 events and 100,000 gaps,
//! from the node in the kitchen to the one in the shed.
//!
//! ```sh
//! cargo run --release -p hub-store --features testing --example moving
//! ```

#![allow(clippy::print_stdout)] // It is what it prints.

use std::time::{Duration, Instant};

use daemon::shutdown::CancellationToken;
use hub_store::testing::{long_id, replacement, with_long_history};
use hub_store::{Replaced, Store};

/// Events of the history.
const EVENTS: u64 = 100_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = with_long_history(dir.path(), EVENTS).await;
    let stop = CancellationToken::new();
    let moving = tokio::spawn(store.clone().move_histories(stop.clone()));
    let writing = tokio::spawn(write_meanwhile(store.clone()));
    let began = Instant::now();
    let replaced = store.replace_node(replacement("a", "b")).await?;
    anyhow::ensure!(matches!(replaced, Replaced::Begun { .. }), "{replaced:?}");
    let begun = began.elapsed();
    let (longest, number) = writing.await??;
    println!("{EVENTS} events and as many gaps: begun after {begun:?}, moved after {:?}", began.elapsed());
    println!("the longest of {number} other writes took {longest:?}");
    stop.cancel();
    moving.await?;
    Ok(())
}

/// Writes a little, again and again, until the history has moved. Returns how long the longest write took, and how many
/// there were.
async fn write_meanwhile(store: Store) -> anyhow::Result<(Duration, u32)> {
    let (mut longest, mut number) = (Duration::ZERO, 0);
    while !store.history_move(long_id("a")).await?.is_some_and(|said| said.is_done) {
        let began = Instant::now();
        store.admit(long_id("c"), "measurement").await?;
        longest = longest.max(began.elapsed());
        number += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok((longest, number))
}
