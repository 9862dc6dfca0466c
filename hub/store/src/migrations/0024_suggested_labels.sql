-- The owner's own label that the hub suggests for an event without a label, and how probable it is, 0 to 1. `context` is
-- 'uncertain' then, as for an event that has such a label. NULL: none. A number of `own_labels`.
ALTER TABLE events ADD COLUMN suggested INTEGER;
ALTER TABLE events ADD COLUMN p_suggested REAL;

-- What was suggested first, if the event was evaluated again.
ALTER TABLE events ADD COLUMN first_suggested INTEGER;
ALTER TABLE events ADD COLUMN first_p_suggested REAL;

-- What was suggested before the last re-evaluation.
ALTER TABLE reevaluated_events ADD COLUMN suggested INTEGER;
ALTER TABLE reevaluated_events ADD COLUMN p_suggested REAL;

CREATE INDEX events_by_suggested ON events (suggested) WHERE suggested IS NOT NULL;
-- To take the suggestions of a removed label back.
CREATE INDEX events_by_first_suggested ON events (first_suggested) WHERE first_suggested IS NOT NULL;
CREATE INDEX reevaluated_events_by_suggested ON reevaluated_events (suggested) WHERE suggested IS NOT NULL;
