-- Labels of a lost database find their events by boot and sample. Clips above the quota go in the order of storing. Events
-- without a node id are looked for when a node proves its id.
CREATE INDEX events_by_boot ON events (boot_id, start_sample);
CREATE INDEX events_by_stored_clip ON events (id) WHERE clip_file IS NOT NULL AND label IS NULL;
CREATE INDEX events_without_node_id ON events (node) WHERE node_id IS NULL;
