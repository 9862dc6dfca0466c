-- What a cat's own classifier learns from when the owner labels the event: 32-bit little-endian floats. NULL: stored
-- before there were any.
ALTER TABLE events ADD COLUMN features BLOB;
