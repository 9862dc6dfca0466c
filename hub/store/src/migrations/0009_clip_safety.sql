-- Which database this is. A new database draws a new id. The hub also keeps the id next to the clips, and so notices
-- that a database was lost, replaced or restored.
CREATE TABLE identity (
    singleton       INTEGER PRIMARY KEY CHECK (singleton = 1),
    database_id     TEXT    NOT NULL                   -- 32 hexadecimal digits
) STRICT;

INSERT INTO identity (singleton, database_id) VALUES (1, lower(hex(randomblob(16))));

-- Clip files that this database has released, until they are removed. Nothing else proves that a clip is useless.
CREATE TABLE clip_removals (
    file            TEXT    NOT NULL PRIMARY KEY       -- name within the clip directory
) STRICT, WITHOUT ROWID;

CREATE TRIGGER clip_released AFTER UPDATE OF clip_file ON events
    WHEN OLD.clip_file IS NOT NULL AND NEW.clip_file IS NULL AND NEW.no_clip_reason = 'expired'
BEGIN
    INSERT OR IGNORE INTO clip_removals (file) VALUES (OLD.clip_file);
END;

CREATE TRIGGER clip_stored AFTER INSERT ON events WHEN NEW.clip_file IS NOT NULL
BEGIN
    DELETE FROM clip_removals WHERE file = NEW.clip_file;
END;

CREATE TRIGGER clip_attached AFTER UPDATE OF clip_file ON events WHEN NEW.clip_file IS NOT NULL
BEGIN
    DELETE FROM clip_removals WHERE file = NEW.clip_file;
END;

-- 1: the event was lost with its database, and recovered from its clip.
ALTER TABLE events ADD COLUMN recovered INTEGER NOT NULL DEFAULT 0;
