-- What is overdue of one subject is found without reading all that he holds; an extension changes an index on expires_at anyway.
DROP INDEX earmark._private_hold_open;
CREATE INDEX _private_hold_open ON earmark._private_hold (root, subject, expires_at) WHERE settled_at IS NULL;
COMMENT ON INDEX earmark._private_hold_open IS
    'settled_at IS NULL is state = ''held'' in other words: a query that says so can take this index and never that of all deadlines, and the other way round';
