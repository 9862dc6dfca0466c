-- The nodes that a person has admitted. Of discovered nodes, the hub listens to these alone.
CREATE TABLE admitted_nodes (
    key             TEXT    NOT NULL PRIMARY KEY,      -- the id of a node that has proved one, else its URL
    admitted_at_ns  INTEGER NOT NULL,
    admitted_by     TEXT    NOT NULL                   -- 'update', 'page' or 'command'
) STRICT, WITHOUT ROWID;

-- Nodes that were heard before this version stay: by their ids, and by their URLs where no id was ever proved.
INSERT INTO admitted_nodes (key, admitted_at_ns, admitted_by)
    SELECT name, CAST(strftime('%s', 'now') AS INTEGER) * 1000000000, 'update' FROM (
        SELECT node_id AS name FROM nodes
        UNION SELECT node_id FROM events WHERE node_id IS NOT NULL
        UNION SELECT node_id FROM gaps WHERE node_id IS NOT NULL
        UNION SELECT node FROM (
            SELECT node FROM watermarks
            UNION SELECT node FROM events WHERE node_id IS NULL
            UNION SELECT node FROM gaps WHERE node_id IS NULL
        ) WHERE node NOT IN (SELECT url FROM nodes) AND node NOT IN (SELECT url FROM node_boots)
    );
