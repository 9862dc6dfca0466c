-- What listening finds. Samples and sequence numbers are the node's: counted from its start, lost ones included.
-- Boot ids are unsigned 64 bits, kept as the signed number of the same bits.

CREATE TABLE events (
    id              INTEGER PRIMARY KEY AUTOINCREMENT, -- never given out twice
    node            TEXT    NOT NULL,
    cat             TEXT    NOT NULL,                  -- '' when the node listens to no cat by name
    boot_id         INTEGER NOT NULL,
    start_sample    INTEGER NOT NULL,
    end_sample      INTEGER NOT NULL,                  -- the one after the last
    started_at_ns   INTEGER NOT NULL,
    ended_at_ns     INTEGER NOT NULL,
    started_monotonic_ns INTEGER NOT NULL,             -- since the node's start
    clock           TEXT    NOT NULL CHECK (clock IN ('node', 'hub')), -- whose clock the times are by
    score           REAL    NOT NULL,
    kind            TEXT,                              -- meow, purr, ...; NULL: not told apart
    context         TEXT    NOT NULL,
    p_waiting_for_food REAL NOT NULL,
    p_isolation     REAL    NOT NULL,
    p_brushing      REAL    NOT NULL,
    peak_dbfs       REAL    NOT NULL,
    rms_dbfs        REAL    NOT NULL,
    snr_db          REAL    NOT NULL,
    pitch_median_hz REAL    NOT NULL,
    pitch_min_hz    REAL    NOT NULL,
    pitch_max_hz    REAL    NOT NULL,
    voiced_fraction REAL    NOT NULL,
    spectral_centroid_hz REAL NOT NULL,
    spectral_flatness REAL  NOT NULL,
    clip_file       TEXT,                              -- name within the clip directory
    clip_bytes      INTEGER,
    clip_start_sample INTEGER,
    clip_samples    INTEGER,
    no_clip_reason  TEXT,                              -- why there is none
    label           TEXT,                              -- what the owner says it was
    labelled_at_ns  INTEGER,
    deleted_at_ns   INTEGER,                           -- kept for a while, so that analysing again does not bring it back
    CHECK ((clip_file IS NULL) = (no_clip_reason IS NOT NULL)),
    CHECK ((clip_file IS NULL) = (clip_bytes IS NULL)),
    UNIQUE (node, boot_id, start_sample)
) STRICT;

CREATE INDEX events_by_time ON events (started_at_ns, id) WHERE deleted_at_ns IS NULL;
CREATE INDEX events_by_cat ON events (cat, started_at_ns, id) WHERE deleted_at_ns IS NULL;
CREATE INDEX events_with_clip ON events (started_at_ns, id, clip_bytes) WHERE clip_file IS NOT NULL;
CREATE INDEX events_deleted ON events (deleted_at_ns) WHERE deleted_at_ns IS NOT NULL;
CREATE INDEX events_by_hub_clock ON events (node, boot_id) WHERE clock = 'hub';

-- Every word of the owner, in order. The last one counts; NULL takes the label back.
CREATE TABLE event_labels (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id        INTEGER NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    label           TEXT,
    labelled_at_ns  INTEGER NOT NULL
) STRICT;

CREATE INDEX event_labels_by_event ON event_labels (event_id);

-- Audio that was never analysed.
CREATE TABLE gaps (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    node            TEXT    NOT NULL,
    boot_id         INTEGER NOT NULL,
    first_sequence  INTEGER NOT NULL,
    frame_count     INTEGER,                           -- of 20 ms; NULL: unknown
    reason          TEXT    NOT NULL,
    detail          TEXT    NOT NULL,
    noticed_at_ns   INTEGER NOT NULL
) STRICT;

CREATE INDEX gaps_by_place ON gaps (node, boot_id, first_sequence);

-- How far each node has been heard.
CREATE TABLE watermarks (
    node            TEXT    NOT NULL PRIMARY KEY,
    boot_id         INTEGER NOT NULL,
    resume_sequence INTEGER NOT NULL,                  -- listening goes on here
    settled_sample  INTEGER NOT NULL,                  -- every event that ends before here is stored
    updated_at_ns   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
