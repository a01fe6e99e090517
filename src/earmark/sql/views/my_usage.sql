-- The barrier holds only around a subquery of its own: PostgreSQL takes a bare UNION ALL apart, and the barrier with it.
CREATE OR REPLACE VIEW earmark.my_usage WITH (security_barrier) AS
SELECT * FROM (
    SELECT c.subject, u.plan, u.features, u.resource, u.quota_limit, u.committed, u.held, u.used, u.remaining, u.over_by, u.period,
        u.period_start, u.period_end
    FROM earmark.caller() c CROSS JOIN LATERAL earmark.usage(c.subject) u
    WHERE NOT c.service AND c.subject IS NOT NULL
    UNION ALL
    SELECT s.subject, u.plan, u.features, u.resource, u.quota_limit, u.committed, u.held, u.used, u.remaining, u.over_by, u.period,
        u.period_start, u.period_end
    FROM earmark._private_subject s CROSS JOIN LATERAL earmark.usage(s.subject) u
    WHERE (SELECT c.service FROM earmark.caller() c)
) reached;
COMMENT ON VIEW earmark.my_usage IS 'What earmark.usage answers, for the caller himself; for a service, for every subject.';
