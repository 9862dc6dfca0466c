//! The rows of the table.

mod clock;
mod disk;
mod hostile;
mod impostor;
mod kill;
mod memory;
mod network;

use std::future::Future;
use std::pin::Pin;

pub(crate) use impostor::claim as impostor_claim;

/// How a row ended, if it did not fail.
pub(crate) enum Outcome {
    /// What must hold held; what was measured.
    Held(String),
    /// This machine cannot do it; why.
    NotRun(String),
}

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// What takes three minutes in all.
    Short,
    /// All.
    Full,
}

/// A row. It panics if what must hold does not hold.
pub(crate) struct Row {
    /// Name, by which it is picked.
    pub(crate) name: &'static str,
    /// What is done.
    pub(crate) does: &'static str,
    /// What must hold.
    pub(crate) holds: &'static str,
    /// Whether it needs the whole machine, also in the short form.
    pub(crate) alone: bool,
    /// Does it.
    pub(crate) run: fn(Scale) -> Work,
}

/// A row at work.
pub(crate) type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// All rows, in their order.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "kill",
        does: "kill -9 of hub and node in turn",
        holds: "every event is stored once, no clip is missing; the hub loses no frame",
        alone: false,
        run: |scale| Box::pin(kill::run(scale)),
    },
    Row {
        name: "network-cut",
        does: "the link between node and hub is cut again and again",
        holds: "no frame is lost; every event is stored once",
        alone: false,
        run: |scale| Box::pin(network::cut(scale)),
    },
    Row {
        name: "network-loss",
        does: "a link that loses packets, or is narrower than the sound",
        holds: "no frame is lost; every event is stored once",
        alone: false,
        run: |scale| Box::pin(network::loss(scale)),
    },
    Row {
        name: "disk-full",
        does: "the hub's disk fills up, and has room again",
        holds: "/readyz is 503 and labels are refused meanwhile; then nothing is missing",
        alone: false,
        run: |scale| Box::pin(disk::full(scale)),
    },
    Row {
        name: "disk-failed",
        does: "the hub's disk fails and turns read-only; fsck, restart",
        holds: "/readyz is 503 and labels are refused meanwhile; then nothing is missing",
        alone: false,
        run: |scale| Box::pin(disk::failed(scale)),
    },
    Row {
        name: "clock",
        does: "the wall clock of hub and node is 14 days behind, right, 100 days ahead, right",
        holds: "every event is stored once, and in the end dated within 4 s; none is deleted",
        alone: false,
        run: |scale| Box::pin(clock::run(scale)),
    },
    Row {
        name: "memory",
        does: "20 nodes under MemoryMax of the units; half-sent messages, resets, idle connections, slow readers on both",
        holds: "no program is killed, no node loses a frame, /readyz answers within 1 s (median)",
        alone: true,
        run: |scale| Box::pin(memory::run(scale)),
    },
    Row {
        name: "hostile-node",
        does: "six hostile nodes: floods of gaps, 250 kB and 4 MB of words, lying numbers, endless frames, another boot each time",
        holds: "the hub stays under 512 MB, /readyz answers within 1 s (median), an honest node loses no frame",
        alone: true,
        run: |scale| Box::pin(hostile::run(scale)),
    },
    Row {
        name: "impostor",
        does: "another machine announces the configured name by mDNS, without the key, and the node is cut off",
        holds: "the hub hears no frame of the impostor, and goes on with the node",
        alone: false,
        run: |scale| Box::pin(impostor::run(scale)),
    },
];
