-- Owners are told of nodes too. SQLite cannot change a CHECK, so the table is made anew.

CREATE TABLE notices_anew (
    id              INTEGER PRIMARY KEY AUTOINCREMENT, -- never given out twice
    key             TEXT    NOT NULL UNIQUE,           -- stays the same over all tries: receivers know a repetition by it
    owner           TEXT    NOT NULL,
    channel         TEXT    NOT NULL,                  -- name among the owner's; '' when suppressed
    channel_kind    TEXT    CHECK (channel_kind IN ('log', 'webhook', 'ntfy', 'mqtt')), -- NULL when suppressed
    kind            TEXT    NOT NULL CHECK (kind IN ('call', 'event', 'digest', 'node')),
    animal          TEXT    NOT NULL,                  -- '' when there is none in particular
    event_id        INTEGER,                           -- may be forgotten before the notice is
    subject         TEXT    NOT NULL,                  -- what it is about, as JSON
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'dead', 'suppressed')),
    reason          TEXT    CHECK (reason IN ('cooldown', 'quiet_hours', 'digest_only')), -- why it is suppressed
    digest_due_ns   INTEGER,                           -- suppressed, and to be told in the digest of this moment
    created_at_ns   INTEGER NOT NULL,
    queued_at_ns    INTEGER NOT NULL,                  -- its age counts from here: its creation, or the last word to try again
    due_at_ns       INTEGER NOT NULL,                  -- not tried before
    tries           INTEGER NOT NULL DEFAULT 0,
    error           TEXT,                              -- why the last try failed
    ended_at_ns     INTEGER,                           -- NULL while it is pending
    CHECK ((state = 'suppressed') = (reason IS NOT NULL)),
    CHECK ((state = 'suppressed') = (channel_kind IS NULL)),
    CHECK ((state = 'pending') = (ended_at_ns IS NULL))
) STRICT;

-- Numbers go on where they were, though the last may have been forgotten.
INSERT INTO sqlite_sequence (name, seq) SELECT 'notices_anew', seq FROM sqlite_sequence WHERE name = 'notices';
INSERT INTO notices_anew (id, key, owner, channel, channel_kind, kind, animal, event_id, subject, state, reason, digest_due_ns,
                          created_at_ns, queued_at_ns, due_at_ns, tries, error, ended_at_ns)
    SELECT id, key, owner, channel, channel_kind, kind, animal, event_id, subject, state, reason, digest_due_ns,
           created_at_ns, queued_at_ns, due_at_ns, tries, error, ended_at_ns FROM notices;
DROP TABLE notices;
ALTER TABLE notices_anew RENAME TO notices;

CREATE INDEX notices_due ON notices (owner, channel, due_at_ns, id) WHERE state = 'pending';
CREATE INDEX notices_alerted ON notices (owner, kind, animal, created_at_ns) WHERE state <> 'suppressed';
CREATE INDEX notices_gathered ON notices (digest_due_ns) WHERE digest_due_ns IS NOT NULL;
CREATE INDEX notices_by_state ON notices (state, id);
CREATE INDEX notices_by_time ON notices (created_at_ns) WHERE state <> 'pending';
