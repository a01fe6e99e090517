-- What the operator's view shows: rollbacks by cause over time, and deadlines that were moved for a reason.

CREATE TABLE earmark._private_rollback_hour (
    hour timestamptz NOT NULL CHECK (hour = date_trunc('hour', hour, 'UTC')),
    cause text NOT NULL,
    items bigint NOT NULL CHECK (items >= 0),
    PRIMARY KEY (hour, cause)
);
COMMENT ON TABLE earmark._private_rollback_hour IS 'Items rolled back within each hour, by cause; counted by tally, so that nobody has to read the journal for it';
INSERT INTO earmark._private_rollback_hour (hour, cause, items)
SELECT date_trunc('hour', g.at, 'UTC'), g.cause, count(*)
FROM (
    SELECT DISTINCT j.root, j.reservation, j.item, j.cause, j.at FROM earmark._private_journal j
    WHERE j.kind = 'rollback' AND j.transaction <= (SELECT t.transaction FROM earmark._private_tallied t)
) g
GROUP BY 1, 2;

-- NOT VALID: what is there obeys a stricter rule, and need not be read for it.
ALTER TABLE earmark._private_journal DROP CONSTRAINT _private_journal_kind_check;
ALTER TABLE earmark._private_journal ADD CONSTRAINT _private_journal_kind_check
    CHECK (kind IN ('reserve', 'commit', 'rollback', 'refund', 'adjust', 'extend')) NOT VALID;
