-- Times are nanoseconds since 1970 UTC. Lengths of audio are samples of 16 kHz audio.

CREATE TABLE analyses (
    id              INTEGER PRIMARY KEY AUTOINCREMENT, -- never given out twice
    cat             TEXT    NOT NULL,
    node            TEXT    NOT NULL,                  -- URL of the node that was asked
    status          TEXT    NOT NULL CHECK (status IN ('running', 'complete', 'partial', 'failed')),
    reason          TEXT,                              -- why it is partial or failed
    started_at_ns   INTEGER NOT NULL,
    ended_at_ns     INTEGER,                           -- NULL while it runs
    verdict         TEXT CHECK (verdict IN ('Smelly', 'Good', 'Bad', 'Hungry')),
    cat_score       REAL,                              -- 0 to 1
    messages        INTEGER NOT NULL DEFAULT 0,        -- of the 30 that the node sends
    heard_samples   INTEGER NOT NULL DEFAULT 0,
    lost_samples    INTEGER NOT NULL DEFAULT 0,        -- in gaps
    boot_id         INTEGER,                           -- of the node's tape, bit for bit; NULL: no audio came
    first_sample    INTEGER,                           -- on that tape, where the audio begins
    rms_dbfs        REAL,
    peak_dbfs       REAL,
    clipped_fraction REAL,
    zero_fraction   REAL
) STRICT;

CREATE INDEX analyses_by_cat ON analyses (cat, id);
CREATE INDEX analyses_by_time ON analyses (started_at_ns);
CREATE INDEX analyses_running ON analyses (id) WHERE status = 'running';

CREATE TABLE analysis_detections (
    analysis_id     INTEGER NOT NULL REFERENCES analyses (id) ON DELETE CASCADE,
    position        INTEGER NOT NULL,                  -- 0, 1, ... in order of time
    start_sample    INTEGER NOT NULL,                  -- from the first sample of the analysis, gaps counted
    end_sample      INTEGER NOT NULL,
    score           REAL    NOT NULL,
    context         TEXT    NOT NULL,                  -- label
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
    PRIMARY KEY (analysis_id, position)
) STRICT, WITHOUT ROWID;
