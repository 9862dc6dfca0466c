-- `min_score` of the node when the event was stored, if the score of the event was below it. No owner was notified of it.
-- Null: the score was high enough, or the node had no `min_score`.
ALTER TABLE events ADD COLUMN below_min_score REAL;

-- As before, but an event that nobody was told of is not shown in place of one that was: its sound would be counted no
-- longer.
DROP TRIGGER shown_event_deleted;
DROP TRIGGER shown_event_removed;
DROP TRIGGER shown_clip_gone;

CREATE TRIGGER shown_event_deleted AFTER UPDATE OF deleted_at_ns ON events
    WHEN OLD.deleted_at_ns IS NULL AND NEW.deleted_at_ns IS NOT NULL
BEGIN
    UPDATE events SET same_sound_as = NULL, envelope = NULL WHERE id = NEW.id;
    UPDATE events SET same_sound_as = (SELECT id FROM events AS other WHERE other.same_sound_as = NEW.id
            ORDER BY other.label IS NULL, other.below_min_score IS NOT NULL, other.clip_file IS NULL,
            other.rms_dbfs DESC, other.id LIMIT 1)
        WHERE same_sound_as = NEW.id AND id <> (SELECT id FROM events AS other WHERE other.same_sound_as = NEW.id
            ORDER BY other.label IS NULL, other.below_min_score IS NOT NULL, other.clip_file IS NULL,
            other.rms_dbfs DESC, other.id LIMIT 1);
    UPDATE events SET same_sound_as = NULL WHERE same_sound_as = NEW.id;
END;

CREATE TRIGGER shown_event_removed AFTER DELETE ON events
BEGIN
    UPDATE events SET same_sound_as = (SELECT id FROM events AS other WHERE other.same_sound_as = OLD.id
            ORDER BY other.label IS NULL, other.below_min_score IS NOT NULL, other.clip_file IS NULL,
            other.rms_dbfs DESC, other.id LIMIT 1)
        WHERE same_sound_as = OLD.id AND id <> (SELECT id FROM events AS other WHERE other.same_sound_as = OLD.id
            ORDER BY other.label IS NULL, other.below_min_score IS NOT NULL, other.clip_file IS NULL,
            other.rms_dbfs DESC, other.id LIMIT 1);
    UPDATE events SET same_sound_as = NULL WHERE same_sound_as = OLD.id;
END;

CREATE TRIGGER shown_clip_gone AFTER UPDATE OF clip_file ON events
    WHEN OLD.clip_file IS NOT NULL AND NEW.clip_file IS NULL AND NEW.deleted_at_ns IS NULL
        AND NEW.same_sound_as IS NULL AND NEW.label IS NULL
BEGIN
    UPDATE events SET same_sound_as = (SELECT id FROM events AS other WHERE other.same_sound_as = NEW.id
            AND other.clip_file IS NOT NULL
            AND (other.below_min_score IS NULL OR other.label IS NOT NULL OR NEW.below_min_score IS NOT NULL)
            ORDER BY other.below_min_score IS NOT NULL, other.rms_dbfs DESC, other.id LIMIT 1)
        WHERE id = NEW.id OR (same_sound_as = NEW.id AND id <> (SELECT id FROM events AS other
            WHERE other.same_sound_as = NEW.id AND other.clip_file IS NOT NULL
            AND (other.below_min_score IS NULL OR other.label IS NOT NULL OR NEW.below_min_score IS NOT NULL)
            ORDER BY other.below_min_score IS NOT NULL, other.rms_dbfs DESC, other.id LIMIT 1));
    UPDATE events SET same_sound_as = NULL WHERE same_sound_as = NEW.id AND clip_file IS NOT NULL
        AND (below_min_score IS NULL OR label IS NOT NULL OR NEW.below_min_score IS NOT NULL);
END;
