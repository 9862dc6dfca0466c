-- People who log in. Of a password, the hub keeps the argon2id hash with its salt and parameters.
CREATE TABLE users (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    name           TEXT    NOT NULL UNIQUE,
    role           TEXT    NOT NULL,                   -- 'viewer', 'listener', 'owner' or 'admin'
    salt           BLOB    NOT NULL,
    hash           BLOB    NOT NULL,
    memory_kib     INTEGER NOT NULL,
    passes         INTEGER NOT NULL,
    created_at_ns  INTEGER NOT NULL
) STRICT;

-- Browsers that are logged in. Of the random number in a cookie, the hub keeps the SHA-256.
CREATE TABLE sessions (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id        INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_hash     BLOB    NOT NULL UNIQUE,
    address        TEXT    NOT NULL,                   -- IP address that logged in
    agent          TEXT    NOT NULL,                   -- the browser, by its own word
    created_at_ns  INTEGER NOT NULL,
    used_at_ns     INTEGER NOT NULL,                   -- last use, to ten minutes
    expires_at_ns  INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_by_user ON sessions (user_id, used_at_ns);

-- Programs. Of a token, the hub keeps the SHA-256.
CREATE TABLE tokens (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    name           TEXT    NOT NULL UNIQUE,
    role           TEXT    NOT NULL,
    token_hash     BLOB    NOT NULL UNIQUE,
    created_at_ns  INTEGER NOT NULL,
    expires_at_ns  INTEGER,                            -- null: never
    used_at_ns     INTEGER                             -- last use, to ten minutes; null: never used
) STRICT;

-- Who did what.
CREATE TABLE audit (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ns          INTEGER NOT NULL,
    who            TEXT    NOT NULL,                   -- name of a user, 'token NAME', 'command', 'this machine' or 'anyone'
    address        TEXT    NOT NULL,                   -- IP address, or empty for a command
    action         TEXT    NOT NULL,                   -- a word such as 'label'
    subject        TEXT    NOT NULL                    -- what it was done to
) STRICT;
