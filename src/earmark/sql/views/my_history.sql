-- The barrier holds only around a subquery of its own: PostgreSQL takes a bare UNION ALL apart, and the barrier with it.
CREATE OR REPLACE VIEW earmark.my_history WITH (security_barrier) AS
SELECT * FROM (
    SELECT s.subject, j.seq, j.at, j.kind, j.resource, nullif(j.period_start, '-infinity') AS period_start, j.reservation, j.item,
        j.committed, j.held, j.cause, j.actor, j.reason
    FROM earmark.caller() c
    JOIN earmark._private_subject s ON s.subject = c.subject
    JOIN earmark._private_journal j ON (j.root, j.subject) = (s.root, s.subject)
    WHERE NOT c.service
    UNION ALL
    SELECT s.subject, j.seq, j.at, j.kind, j.resource, nullif(j.period_start, '-infinity'), j.reservation, j.item,
        j.committed, j.held, j.cause, j.actor, j.reason
    FROM earmark._private_subject s
    JOIN earmark._private_journal j ON (j.root, j.subject) = (s.root, s.subject)
    WHERE (SELECT c.service FROM earmark.caller() c)
) reached;
COMMENT ON VIEW earmark.my_history IS 'The caller''s own journal; for a service, everybody''s. committed and held are what the entry added.';
