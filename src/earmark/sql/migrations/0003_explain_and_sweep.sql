-- What became of one reservation is told from its journal entries; without an index that is a look at all of its subject's.
CREATE INDEX _private_journal_reservation ON earmark._private_journal (reservation) WHERE reservation IS NOT NULL;

-- Answers holds now, not the JSON of the verbs, which the sweeper has no use for.
DROP FUNCTION IF EXISTS earmark._private_settle(jsonb, text, timestamptz);

-- Goes on after the deadline that the call before it came to.
DROP FUNCTION IF EXISTS earmark.expire(int);
