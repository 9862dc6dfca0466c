-- A node that replaces one whose key is lost stays what programs such as Home Assistant know the former one by.
ALTER TABLE nodes ADD COLUMN device_id TEXT;           -- id of the first of the replaced nodes; NULL: its own id
