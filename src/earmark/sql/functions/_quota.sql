CREATE OR REPLACE FUNCTION earmark._private_quota(subjects text[], at timestamptz)
RETURNS TABLE (root text, subject text, resource text, quota bigint, period text, refundable boolean,
    period_start timestamptz, period_end timestamptz, committed bigint, held bigint)
LANGUAGE sql STABLE SET search_path = earmark, pg_temp AS $$
    SELECT s.root, s.subject, q.resource, CASE WHEN o.subject IS NULL THEN q.quota ELSE o.quota END, q.period, q.refundable,
        p.period_start, p.period_end, coalesce(b.committed, 0), coalesce(b.held, 0)
    FROM _private_subject s
    JOIN _private_plan_quota q ON q.plan = s.plan
    LEFT JOIN _private_subject_quota o ON (o.root, o.subject, o.resource) = (s.root, s.subject, q.resource)
    CROSS JOIN LATERAL _private_period(s.anchor, q.period, at) p
    LEFT JOIN _private_balance b
        ON (b.root, b.subject, b.resource, b.period_start) = (s.root, s.subject, q.resource, p.period_start)
    WHERE s.subject = ANY (subjects)
$$;
COMMENT ON FUNCTION earmark._private_quota IS
    'What these subjects may use and use at a moment: plan or override (NULL: unlimited), period and balance, a row per subject and resource.';
