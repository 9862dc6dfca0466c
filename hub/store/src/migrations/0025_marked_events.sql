-- An event that a person marked, with a label or with the name of its cat, is spared by retention.
DROP INDEX events_by_stored_clip;
CREATE INDEX events_by_stored_clip ON events (id) WHERE clip_file IS NOT NULL AND label IS NULL AND said_cat IS NULL;
CREATE INDEX events_marked ON events (max(coalesce(labelled_at_ns, 0), coalesce(said_cat_at_ns, 0)), id)
    WHERE (label IS NOT NULL OR said_cat IS NOT NULL) AND deleted_at_ns IS NULL;
