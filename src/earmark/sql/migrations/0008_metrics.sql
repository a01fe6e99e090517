-- What an operator watches: figures counted from the journal, beside the ledger and never in its way, and what checks found.
-- Like the settings, they are about a server and not about a subject.

CREATE TABLE earmark._private_tally (
    metric text NOT NULL,
    cause text NOT NULL DEFAULT '',
    le double precision NOT NULL DEFAULT 'infinity',
    value numeric NOT NULL,
    PRIMARY KEY (metric, cause, le)
);
COMMENT ON TABLE earmark._private_tally IS 'What the journal says has happened so far, counted by tally; le: the upper bound of a histogram''s bucket, in seconds';

CREATE TABLE earmark._private_tallied (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    transaction xid8 NOT NULL
);
COMMENT ON TABLE earmark._private_tallied IS 'Up to which transaction the journal is counted in _private_tally';
INSERT INTO earmark._private_tallied (transaction) VALUES ('0');

CREATE TABLE earmark._private_check (
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z_]{0,62}$'),
    findings bigint NOT NULL CHECK (findings >= 0),
    at timestamptz NOT NULL
);
COMMENT ON TABLE earmark._private_check IS 'What the last verify, and whatever else compares the books, found; see record_check';
