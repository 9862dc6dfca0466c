-- How many of the owner's labels for this cat the context rests on. 0: the general model said it.
ALTER TABLE events ADD COLUMN context_labels INTEGER NOT NULL DEFAULT 0;
ALTER TABLE analyses ADD COLUMN context_labels INTEGER NOT NULL DEFAULT 0;

CREATE INDEX events_labelled ON events (cat, labelled_at_ns) WHERE label IS NOT NULL AND deleted_at_ns IS NULL;
