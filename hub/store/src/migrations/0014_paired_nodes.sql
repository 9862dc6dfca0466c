-- The nodes that the hub is paired with: it listens to them over TLS, and to no other key than theirs.
CREATE TABLE paired_nodes (
    node_id       TEXT    NOT NULL PRIMARY KEY,        -- 64 hexadecimal digits
    key           TEXT    NOT NULL,                    -- fingerprint of the node's present key, 64 hexadecimal digits
    url           TEXT    NOT NULL UNIQUE,
    paired_at_ns  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
