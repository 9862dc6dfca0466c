-- Ids of the events that the owner labelled "not a cat" and that this event sounded like when it was stored, as a JSON
-- list. No owner was notified of it. Null: it was like none of them.
ALTER TABLE events ADD COLUMN like_false_alarms TEXT;

-- What a node taught: read whenever the hub stores an event.
CREATE INDEX events_labelled_by_node ON events (node_id, node) WHERE label IS NOT NULL AND deleted_at_ns IS NULL;
