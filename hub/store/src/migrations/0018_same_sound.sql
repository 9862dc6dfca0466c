-- One sound that several nodes heard is one event: the loudest row is shown, and the others name it here. NULL: the
-- row is shown itself.
ALTER TABLE events ADD COLUMN same_sound_as INTEGER;
-- Levels in a few bands over time, to tell whether another node heard the same sound. NULL once the event is an hour
-- old.
ALTER TABLE events ADD COLUMN envelope BLOB;

CREATE INDEX events_of_same_sound ON events (same_sound_as) WHERE same_sound_as IS NOT NULL;
CREATE INDEX events_with_envelope ON events (started_at_ns) WHERE envelope IS NOT NULL;

-- When the shown event of a sound is deleted, the loudest of the others is shown. The second statement leaves that one
-- with the old number, so the third finds it.
CREATE TRIGGER shown_event_deleted AFTER UPDATE OF deleted_at_ns ON events
    WHEN OLD.deleted_at_ns IS NULL AND NEW.deleted_at_ns IS NOT NULL
BEGIN
    UPDATE events SET same_sound_as = NULL, envelope = NULL WHERE id = NEW.id;
    UPDATE events SET same_sound_as = (SELECT id FROM events AS other WHERE other.same_sound_as = NEW.id
            ORDER BY other.clip_file IS NULL, other.rms_dbfs DESC, other.id LIMIT 1)
        WHERE same_sound_as = NEW.id AND id <> (SELECT id FROM events AS other WHERE other.same_sound_as = NEW.id
            ORDER BY other.clip_file IS NULL, other.rms_dbfs DESC, other.id LIMIT 1);
    UPDATE events SET same_sound_as = NULL WHERE same_sound_as = NEW.id;
END;

CREATE TRIGGER shown_event_removed AFTER DELETE ON events
BEGIN
    UPDATE events SET same_sound_as = (SELECT id FROM events AS other WHERE other.same_sound_as = OLD.id
            ORDER BY other.clip_file IS NULL, other.rms_dbfs DESC, other.id LIMIT 1)
        WHERE same_sound_as = OLD.id AND id <> (SELECT id FROM events AS other WHERE other.same_sound_as = OLD.id
            ORDER BY other.clip_file IS NULL, other.rms_dbfs DESC, other.id LIMIT 1);
    UPDATE events SET same_sound_as = NULL WHERE same_sound_as = OLD.id;
END;

-- When the shown event of a sound loses its clip, the loudest of the others that have a clip is shown. A labelled
-- event stays shown.
CREATE TRIGGER shown_clip_gone AFTER UPDATE OF clip_file ON events
    WHEN OLD.clip_file IS NOT NULL AND NEW.clip_file IS NULL AND NEW.deleted_at_ns IS NULL
        AND NEW.same_sound_as IS NULL AND NEW.label IS NULL
BEGIN
    UPDATE events SET same_sound_as = (SELECT id FROM events AS other WHERE other.same_sound_as = NEW.id
            AND other.clip_file IS NOT NULL ORDER BY other.rms_dbfs DESC, other.id LIMIT 1)
        WHERE id = NEW.id OR (same_sound_as = NEW.id AND id <> (SELECT id FROM events AS other
            WHERE other.same_sound_as = NEW.id AND other.clip_file IS NOT NULL
            ORDER BY other.rms_dbfs DESC, other.id LIMIT 1));
    UPDATE events SET same_sound_as = NULL WHERE same_sound_as = NEW.id AND clip_file IS NOT NULL;
END;
