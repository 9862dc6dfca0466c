-- The history of a node whose key is lost moves in batches to the node that replaces it. A row of a history that has
-- moved stays for a while, so that the command can tell what has moved.
CREATE TABLE moved_histories (
    old             TEXT    NOT NULL PRIMARY KEY,      -- id of the node whose key is lost
    new             TEXT    NOT NULL,                  -- id of the node that replaces it
    events          INTEGER NOT NULL,                  -- moved so far, without deleted ones
    clips           INTEGER NOT NULL,
    labels          INTEGER NOT NULL,
    begun_at_ns     INTEGER NOT NULL,
    ended_at_ns     INTEGER                            -- NULL: something is left to move
) STRICT, WITHOUT ROWID;

CREATE INDEX gaps_by_node_id ON gaps (node_id) WHERE node_id IS NOT NULL;
