-- A node is its node id, whatever its URL is. Nodes that prove no id are known by their URLs, as before.

-- Where each node was seen last.
CREATE TABLE nodes (
    node_id         TEXT    NOT NULL PRIMARY KEY,      -- 64 hexadecimal digits
    url             TEXT    NOT NULL,                  -- used last
    seen_at_ns      INTEGER NOT NULL                   -- when that became its URL
) STRICT, WITHOUT ROWID;

-- Which node a boot at a URL was. What is heard is stored under the URL and the boot id, and finds its node here.
CREATE TABLE node_boots (
    url             TEXT    NOT NULL,
    boot_id         INTEGER NOT NULL,
    node_id         TEXT    NOT NULL,
    seen_at_ns      INTEGER NOT NULL,
    PRIMARY KEY (url, boot_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX node_boots_by_time ON node_boots (seen_at_ns);

-- NULL: the node has proved no id.
ALTER TABLE events ADD COLUMN node_id TEXT;
ALTER TABLE gaps ADD COLUMN node_id TEXT;

CREATE INDEX events_by_node_id ON events (node_id, boot_id, start_sample) WHERE node_id IS NOT NULL;

-- How far each boot of each node was heard: a copied key gives one id to two nodes, and neither may move the place of
-- the other. `node` is the id of a node that has proved one, else its URL.
CREATE TABLE watermarks_of_boots (
    node            TEXT    NOT NULL,
    boot_id         INTEGER NOT NULL,
    resume_sequence INTEGER NOT NULL,                  -- listening goes on here
    settled_sample  INTEGER NOT NULL,                  -- every event that ends before here is stored
    updated_at_ns   INTEGER NOT NULL,
    PRIMARY KEY (node, boot_id)
) STRICT, WITHOUT ROWID;

INSERT INTO watermarks_of_boots (node, boot_id, resume_sequence, settled_sample, updated_at_ns)
    SELECT node, boot_id, resume_sequence, settled_sample, updated_at_ns FROM watermarks;
DROP TABLE watermarks;
ALTER TABLE watermarks_of_boots RENAME TO watermarks;
