-- The cat that the owner named for an event: "this was Ada". `cat` stays what the node announced. NULL: the owner named
-- none, and the event is of the node's cat.
ALTER TABLE events ADD COLUMN said_cat TEXT;
-- When the owner named it, or took the name back.
ALTER TABLE events ADD COLUMN said_cat_at_ns INTEGER;

CREATE INDEX events_of_cat ON events (coalesce(said_cat, cat), started_at_ns, id) WHERE deleted_at_ns IS NULL;
CREATE INDEX events_by_said_cat ON events (said_cat) WHERE said_cat IS NOT NULL;
