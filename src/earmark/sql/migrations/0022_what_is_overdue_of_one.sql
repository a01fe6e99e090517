-- What is overdue of one subject is found without reading all that he holds; an extension changes an index on expires_at anyway.
-- settled_at IS NULL is state = 'held' in other words: whoever says the one, asks for this index, and never for that of all deadlines.
DROP INDEX earmark._private_hold_open;
CREATE INDEX _private_hold_open ON earmark._private_hold (root, subject, expires_at) WHERE settled_at IS NULL;
