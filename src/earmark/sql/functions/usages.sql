CREATE OR REPLACE FUNCTION earmark.usages(subjects text[])
RETURNS TABLE (subject text, plan text, features jsonb, resource text, quota_limit bigint, committed bigint, held bigint, used bigint,
    remaining bigint, over_by bigint, period text, period_start timestamptz, period_end timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := _private_now();
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT s.root, s.subject, s.plan, s.anchor FROM _private_subject s WHERE s.subject = ANY (subjects)
    ), counted AS MATERIALIZED (
        SELECT w.plan, w.anchor, p.features, q.resource, q.quota, q.period, t.period_start, t.period_end
        FROM (SELECT DISTINCT a.plan, a.anchor FROM asked a) w
        JOIN _private_plan p ON p.plan = w.plan
        LEFT JOIN _private_plan_quota q ON q.plan = w.plan
        LEFT JOIN LATERAL _private_period(w.anchor, q.period, moment) t ON q.period IS NOT NULL
    )
    SELECT a.subject, a.plan, c.features, c.resource, CASE WHEN c.resource IS NOT NULL THEN coalesce(f.quota, -1) END, f.committed, f.held,
        f.committed + f.held, CASE WHEN f.quota IS NOT NULL THEN greatest(f.quota - f.committed - f.held, 0) WHEN c.resource IS NOT NULL THEN -1 END,
        CASE WHEN c.resource IS NOT NULL THEN greatest(f.committed + f.held - f.quota, 0) END,
        c.period, nullif(c.period_start, '-infinity'), nullif(c.period_end, 'infinity')
    FROM asked a
    JOIN counted c ON (c.plan, c.anchor) = (a.plan, a.anchor)
    LEFT JOIN _private_subject_quota o ON (o.root, o.subject, o.resource) = (a.root, a.subject, c.resource)
    LEFT JOIN LATERAL (
        SELECT * FROM _private_balance b
        WHERE (b.root, b.subject, b.resource, b.period_start) = (a.root, a.subject, c.resource, c.period_start) OFFSET 0
    ) b ON true
    CROSS JOIN LATERAL (
        SELECT CASE WHEN o.subject IS NULL THEN c.quota ELSE o.quota END AS quota,
            CASE WHEN c.resource IS NOT NULL THEN coalesce(b.committed, 0) END AS committed,
            CASE WHEN b.held > 0 THEN b.held - (
                SELECT coalesce(sum(h.amount), 0)::bigint FROM _private_hold h
                WHERE (h.root, h.subject, h.resource, h.period_start) = (b.root, b.subject, b.resource, b.period_start)
                    AND h.settled_at IS NULL AND h.expires_at <= moment
            ) WHEN c.resource IS NOT NULL THEN 0 END AS held
    ) f
    ORDER BY a.subject, c.resource;
    RETURN QUERY
    SELECT n.name, u.plan, u.features, u.resource, u.quota_limit, u.committed, u.held, u.used, u.remaining, u.over_by, u.period, u.period_start,
        u.period_end
    FROM (SELECT DISTINCT name FROM unnest(subjects) name) n
    CROSS JOIN LATERAL _private_usage(n.name, top => 0::smallint) u
    WHERE NOT EXISTS (SELECT FROM _private_subject s WHERE s.subject = n.name);
END $$;
COMMENT ON FUNCTION earmark.usages IS
'usage of many subjects at once, in the rows that usage answers for each of them. For a service that answers many callers; it costs a
fraction of as many calls. Errors: QT002 (where one of them is unknown, for all), QT005 (services only).';
