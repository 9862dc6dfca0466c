-- `min_score` of the node when the event was stored, if the score of the event was below it. No owner was notified of it.
-- Null: the score was high enough, or the node had no `min_score`.
ALTER TABLE events ADD COLUMN below_min_score REAL;
