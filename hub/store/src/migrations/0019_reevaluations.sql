-- What the classifier said first about an event whose context was evaluated again. Null: it was never evaluated again.
ALTER TABLE events ADD COLUMN first_context TEXT;
ALTER TABLE events ADD COLUMN first_p_waiting_for_food REAL;
ALTER TABLE events ADD COLUMN first_p_isolation REAL;
ALTER TABLE events ADD COLUMN first_p_brushing REAL;
ALTER TABLE events ADD COLUMN first_context_labels INTEGER;

-- The last re-evaluation of each cat, to undo it. It names no cat: its events do.
CREATE TABLE reevaluations (
    id              INTEGER PRIMARY KEY AUTOINCREMENT, -- never given out twice
    done_at_ns      INTEGER NOT NULL
) STRICT;

-- What the changed events said before.
CREATE TABLE reevaluated_events (
    reevaluation    INTEGER NOT NULL REFERENCES reevaluations (id) ON DELETE CASCADE,
    event_id        INTEGER NOT NULL REFERENCES events (id) ON DELETE CASCADE,
    context         TEXT    NOT NULL,
    p_waiting_for_food REAL NOT NULL,
    p_isolation     REAL    NOT NULL,
    p_brushing      REAL    NOT NULL,
    context_labels  INTEGER NOT NULL,
    was_first       INTEGER NOT NULL,                  -- 1: the event was never evaluated again before
    PRIMARY KEY (reevaluation, event_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX reevaluated_events_by_event ON reevaluated_events (event_id);

-- Labels of the owner's own, next to the contexts. Upper and lower case are the same.
CREATE TABLE own_labels (
    id              INTEGER PRIMARY KEY AUTOINCREMENT, -- never given out twice
    name            TEXT    NOT NULL UNIQUE COLLATE NOCASE,
    created_at_ns   INTEGER NOT NULL
) STRICT;

-- The number of the owner's own label; `label` is 'uncertain' then. No reference: an event outlives a damaged table.
ALTER TABLE events ADD COLUMN own_label INTEGER;
ALTER TABLE event_labels ADD COLUMN own_label INTEGER;

CREATE INDEX events_by_own_label ON events (own_label) WHERE own_label IS NOT NULL;
