CREATE OR REPLACE FUNCTION earmark._private_quota(subjects text[], at timestamptz)
RETURNS TABLE (root text, subject text, level smallint, holder text, resource text, quota bigint, period text, refundable boolean,
    period_start timestamptz, period_end timestamptz, committed bigint, held bigint)
LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp SET enable_hashjoin = off AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT s.root, s.subject, (h.ordinality - 1)::smallint, h.name, q.resource, CASE WHEN o.subject IS NULL THEN q.quota ELSE o.quota END,
        q.period, q.refundable, p.period_start, p.period_end, coalesce(b.committed, 0), coalesce(b.held, 0)
    FROM _private_subject s
    CROSS JOIN LATERAL unnest(s.ancestors) WITH ORDINALITY h (name)
    JOIN _private_subject t ON t.subject = h.name
    JOIN _private_plan_quota q ON q.plan = t.plan
    LEFT JOIN _private_subject_quota o ON (o.root, o.subject, o.resource) = (t.root, t.subject, q.resource)
    CROSS JOIN LATERAL _private_period(t.anchor, q.period, at) p
    LEFT JOIN LATERAL ( -- OFFSET: one balance is looked up, and not every period of the holder's read
        SELECT * FROM _private_balance b
        WHERE (b.root, b.subject, b.resource, b.period_start) = (t.root, t.subject, q.resource, p.period_start) OFFSET 0
    ) b ON true
    WHERE s.subject = ANY (subjects)
        AND (h.ordinality = 1 OR EXISTS (SELECT FROM _private_plan_quota own WHERE (own.plan, own.resource) = (s.plan, q.resource)));
END $$;
COMMENT ON FUNCTION earmark._private_quota IS
'What these subjects may use and use at a moment, a row per subject, level and resource of his own plan: plan or override of the holder (the subject himself at level 0, then his parent, up to the root; NULL: unlimited), period and balance.';
