//! What a hub has stored, compared with what was to be heard: the synthetic cat says the same after each start.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use rusqlite::{Connection, Row};
use sound::SAMPLE_RATE_HZ;
use sound::analysis::Analyzer;
use sound::detector::DetectorConfig;
use sound::synth::{Synth, SynthConfig};

/// Name of the hub's database in its data folder.
const DATABASE: &str = "hub.sqlite";

/// Samples in a frame of 20 ms.
pub(crate) const FRAME_SAMPLES: u64 = 320;

/// Where an event may be cut: this near to where the sound of a boot ends, in samples. A quarter of a second.
const EDGE: u64 = SAMPLE_RATE_HZ as u64 / 4;

/// How much further sound shows where an event ends, in samples. Four seconds.
const LOOK_AHEAD: u64 = 4 * SAMPLE_RATE_HZ as u64;

/// From where to where an event is, in samples since the start of its node.
type Span = (u64, u64);

/// What a hub has stored of one node.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Starts of the node that the hub has heard.
    pub(crate) boots: usize,
    /// Seconds of its sound that the hub has heard and settled.
    pub(crate) seconds: u64,
    /// Events that were to be heard in them, and were stored once.
    pub(crate) events: usize,
    /// Events that were to be heard, and were not stored.
    missing: Vec<Span>,
    /// Events that were stored more than once.
    twice: Vec<Span>,
    /// Events that were stored, and were not to be heard.
    invented: Vec<Span>,
    /// Lost frames: boot, first frame, number of frames, reason.
    pub(crate) gaps: Vec<(i64, u64, u64, String)>,
    /// Clips of events that are named in the database and are not there.
    clips_missing: usize,
}

impl Audit {
    /// Reads the database of a hub that does not run. All its nodes must be synthetic cats with this seed.
    ///
    /// # Panics
    /// If the database cannot be read.
    pub(crate) fn of(data_folder: &Path, seed: u64) -> Self {
        let database = Connection::open(data_folder.join(DATABASE)).expect("the database opens");
        let events = boots_and_spans(&database, "SELECT boot_id, start_sample, end_sample FROM events ORDER BY 1, 2");
        let settled = boots_and_spans(&database, "SELECT boot_id, settled_sample, resume_sequence FROM watermarks");
        // The frame count is unknown where a node was started again.
        let ends = boots_and_spans(
            &database,
            "SELECT boot_id, first_sequence, 0 FROM gaps WHERE frame_count IS NULL ORDER BY 1, 2",
        );
        let mut audit = Self { gaps: gaps(&database), ..Self::default() };
        for boot in settled.keys().chain(ends.keys()).chain(events.keys()).collect::<std::collections::BTreeSet<_>>() {
            let stored = events.get(boot).map_or(&[][..], Vec::as_slice);
            let ended_at = ends.get(boot).and_then(|ends| ends.last()).map(|end| end.0 * FRAME_SAMPLES);
            let until = ended_at.or_else(|| settled.get(boot)?.last().map(|place| place.0)).unwrap_or(0);
            audit.compare(stored, &truth(seed, until, ended_at.is_some()), until);
        }
        audit.clips_missing = clips_missing(&database, data_folder);
        audit
    }

    fn compare(&mut self, stored: &[Span], truth: &[Span], until: u64) {
        self.boots += 1;
        self.seconds += until / u64::from(SAMPLE_RATE_HZ);
        for &span in truth {
            match stored.iter().filter(|&&one| same(one, span)).count() {
                0 if span.1 + EDGE > until => {}
                0 => self.missing.push(span),
                1 => self.events += 1,
                _ => self.twice.push(span),
            }
        }
        for (nth, &span) in stored.iter().enumerate() {
            if stored[..nth].iter().any(|&one| one.1 > span.0) {
                self.twice.push(span);
            }
            if span.1 + EDGE < until && !truth.iter().any(|&one| same(one, span)) {
                self.invented.push(span);
            }
        }
    }

    /// Requires that each event was stored once, that its clip is there if it has one, and that no frame was lost.
    ///
    /// # Panics
    /// If something is missing, twice, or was not to be heard.
    pub(crate) fn must_be_whole(&self) {
        assert!(self.gaps.iter().all(|gap| gap.3 == "node_restarted"), "frames were lost: {:?}", self.gaps);
        assert!(self.missing.is_empty(), "events are missing: {self:?}");
        assert!(self.twice.is_empty(), "events are stored twice: {self:?}");
        assert!(self.invented.is_empty(), "events were not to be heard: {self:?}");
        assert_eq!(self.clips_missing, 0, "clips are missing: {self:?}");
        assert!(self.events > 0, "nothing was heard: {self:?}");
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events, seconds, boots, .. } = self;
        write!(out, "{events} events in {seconds} s of {boots} starts of the node: 0 missing, 0 twice")
    }
}

fn boots_and_spans(database: &Connection, sql: &str) -> BTreeMap<i64, Vec<Span>> {
    let mut statement = database.prepare(sql).expect("a table");
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, (unsigned(row, 1)?, unsigned(row, 2)?))));
    let mut all = BTreeMap::<i64, Vec<Span>>::new();
    for row in rows.expect("rows") {
        let (boot, span) = row.expect("a row");
        all.entry(boot).or_default().push(span);
    }
    all
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

fn gaps(database: &Connection) -> Vec<(i64, u64, u64, String)> {
    let mut statement = database
        .prepare("SELECT boot_id, first_sequence, coalesce(frame_count, 0), reason FROM gaps ORDER BY id")
        .expect("a table");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, unsigned(row, 1)?, unsigned(row, 2)?, row.get(3)?)));
    rows.expect("rows").map(|row| row.expect("a row")).collect()
}

fn clips_missing(database: &Connection, data_folder: &Path) -> usize {
    let mut statement = database.prepare("SELECT clip_file FROM events WHERE clip_file IS NOT NULL").expect("a table");
    let names = statement.query_map([], |row| row.get::<_, String>(0)).expect("rows");
    names.filter(|name| !data_folder.join("clips").join(name.as_ref().expect("a row")).is_file()).count()
}

/// What is to be heard in the first `samples` of a synthetic cat. If its sound has `ended` there, an event that is
/// under way ends with it. Otherwise only events that further sound cannot change are counted.
fn truth(seed: u64, samples: u64, ended: bool) -> Vec<Span> {
    let mut synth = Synth::new(SynthConfig { seed, vocalisations: true });
    let mut analyzer = Analyzer::new(DetectorConfig::default());
    // What is undecided at `samples` is heard on, so that an event that ends right there is known too.
    let until = if ended { samples } else { samples + LOOK_AHEAD };
    let mut audio = vec![0; FRAME_SAMPLES as usize];
    for _ in 0..until / FRAME_SAMPLES {
        synth.read(&mut audio);
        analyzer.push(&audio);
    }
    let mut found = analyzer.take_detections();
    if ended {
        found.extend(analyzer.finish().detections);
    }
    found.iter().map(|found| (found.start_sample, found.end_sample)).filter(|span| span.1 <= samples).collect()
}

/// Whether two spans are readings of one event, by the store's rule.
fn same(a: Span, b: Span) -> bool {
    let shared = a.1.min(b.1).saturating_sub(a.0.max(b.0));
    2 * shared > (a.1 - a.0).min(b.1 - b.0)
}
