-- What is overdue of one subject is found without reading all that he holds; an extension changes an index on expires_at anyway.
DROP INDEX earmark._private_hold_open;
CREATE INDEX _private_hold_open ON earmark._private_hold (root, subject, expires_at) WHERE state = 'held';
