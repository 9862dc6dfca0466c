-- What a person wants deleted: everything about a cat, before a time, or both. The hub works it off in the background and
-- resumes after a restart.
CREATE TABLE deletions (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    requested_at_ns INTEGER NOT NULL,
    cat             TEXT,                              -- name of the cat; null when it is finished, or for every cat
    of_cat          INTEGER NOT NULL,                  -- 1: about one cat
    before_ns       INTEGER,                           -- what began before this time; null: whatever the time
    newest_event    INTEGER NOT NULL,                  -- highest numbers at the request: what came later stays
    newest_notice   INTEGER NOT NULL,
    newest_analysis INTEGER NOT NULL,
    ended_at_ns     INTEGER,                           -- null while it is not finished
    events          INTEGER NOT NULL DEFAULT 0,        -- how many were deleted
    clips           INTEGER NOT NULL DEFAULT 0,
    labels          INTEGER NOT NULL DEFAULT 0,
    notifications   INTEGER NOT NULL DEFAULT 0,
    analyses        INTEGER NOT NULL DEFAULT 0,
    copies          INTEGER NOT NULL DEFAULT 0,        -- files of the quarantine, and events in snapshots
    CHECK (of_cat OR before_ns IS NOT NULL),
    CHECK (cat IS NULL OR of_cat),
    CHECK (cat IS NOT NULL OR NOT of_cat OR ended_at_ns IS NOT NULL)
) STRICT;
