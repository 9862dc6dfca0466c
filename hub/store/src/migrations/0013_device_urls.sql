-- A node that programs such as Home Assistant know by its URL keeps the name that they made from it, wherever it moves. A
-- node that is new has no such name, and is known by its id.
ALTER TABLE nodes ADD COLUMN device_url TEXT;          -- NULL: known by its id

-- Of two nodes that used one URL, the later one is known by it.
UPDATE nodes SET device_url = url WHERE NOT EXISTS (SELECT 1 FROM nodes AS other WHERE other.url = nodes.url
    AND (other.seen_at_ns, other.node_id) > (nodes.seen_at_ns, nodes.node_id));
