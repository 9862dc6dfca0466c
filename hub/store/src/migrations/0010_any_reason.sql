-- A new reason for a suppressed notification must not need a change of the schema, so the CHECK on reason goes. SQLite
-- cannot drop a CHECK, so the table is built again.

CREATE TABLE notices_rebuilt (
    id              INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice
    key             TEXT    NOT NULL UNIQUE,           -- idempotency key: stays the same over all deliveries
    owner           TEXT    NOT NULL,
    channel         TEXT    NOT NULL,                  -- name among the owner's channels; '' when suppressed
    channel_kind    TEXT,                              -- such as 'webhook'; NULL when suppressed
    kind            TEXT    NOT NULL CHECK (kind IN ('call', 'event', 'digest', 'node')),
    animal          TEXT    NOT NULL,                  -- '' when it is unknown, and for digests
    event_id        INTEGER,                           -- the event may be deleted before the notice
    subject         TEXT    NOT NULL,                  -- what it is about, as JSON
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'dead', 'suppressed')),
    reason          TEXT,                              -- why it is suppressed, such as 'backlog'
    digest_due_ns   INTEGER,                           -- suppressed, and to be counted in the digest of this moment
    created_at_ns   INTEGER NOT NULL,
    queued_at_ns    INTEGER NOT NULL,                  -- its age counts from here: stored, or queued again
    due_at_ns       INTEGER NOT NULL,                  -- not delivered before
    tries           INTEGER NOT NULL DEFAULT 0,
    error           TEXT,                              -- why the last delivery failed
    ended_at_ns     INTEGER,                           -- NULL while it is pending
    CHECK ((state = 'suppressed') = (reason IS NOT NULL)),
    CHECK ((state = 'suppressed') = (channel_kind IS NULL)),
    CHECK ((state = 'pending') = (ended_at_ns IS NULL))
) STRICT;

-- Numbers continue where they were, even if the notice with the highest number was deleted.
INSERT INTO sqlite_sequence (name, seq) SELECT 'notices_rebuilt', seq FROM sqlite_sequence WHERE name = 'notices';
INSERT INTO notices_rebuilt (id, key, owner, channel, channel_kind, kind, animal, event_id, subject, state, reason,
                             digest_due_ns, created_at_ns, queued_at_ns, due_at_ns, tries, error, ended_at_ns)
    SELECT id, key, owner, channel, channel_kind, kind, animal, event_id, subject, state, reason, digest_due_ns,
           created_at_ns, queued_at_ns, due_at_ns, tries, error, ended_at_ns FROM notices;
DROP TABLE notices;
ALTER TABLE notices_rebuilt RENAME TO notices;

CREATE INDEX notices_due ON notices (owner, channel, due_at_ns, id) WHERE state = 'pending';
CREATE INDEX notices_alerted ON notices (owner, kind, animal, created_at_ns) WHERE state <> 'suppressed';
CREATE INDEX notices_gathered ON notices (digest_due_ns) WHERE digest_due_ns IS NOT NULL;
CREATE INDEX notices_by_state ON notices (state, id);
CREATE INDEX notices_by_time ON notices (created_at_ns) WHERE state <> 'pending';
