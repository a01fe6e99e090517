CREATE OR REPLACE FUNCTION earmark._private_usage(subject text, top smallint)
RETURNS TABLE (level smallint, holder text, plan text, features jsonb, resource text, quota_limit bigint, committed bigint, held bigint,
    used bigint, remaining bigint, over_by bigint, period text, period_start timestamptz, period_end timestamptz)
LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := _private_now();
BEGIN
    IF NOT EXISTS (SELECT FROM _private_subject s WHERE s.subject = _private_usage.subject) THEN
        RETURN QUERY
        SELECT 0::smallint, _private_usage.subject, p.plan, p.features, q.resource, coalesce(q.quota, -1), 0::bigint, 0::bigint, 0::bigint,
            coalesce(q.quota, -1), 0::bigint, q.period, nullif(w.period_start, '-infinity'), nullif(w.period_end, 'infinity')
        FROM _private_setting d
        JOIN _private_plan p ON p.plan = d.value
        JOIN _private_plan_quota q ON q.plan = p.plan
        CROSS JOIN LATERAL _private_period('1970-01-01T00:00:00Z', q.period, moment) w
        WHERE d.name = 'default_plan'
        ORDER BY q.resource;
        IF NOT FOUND OR _private_usage.subject IS NULL THEN
            PERFORM _private_raise('QT002', format('Subject %s is unknown.', coalesce(to_jsonb(_private_usage.subject), 'null')),
                jsonb_build_object('subject', _private_usage.subject));
        END IF;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT (h.ordinality - 1)::smallint, h.name, t.plan, p.features, q.resource, CASE WHEN q.resource IS NOT NULL THEN coalesce(q.quota, -1) END,
        q.committed, u.held, q.committed + u.held,
        CASE WHEN q.quota IS NOT NULL THEN greatest(q.quota - q.committed - u.held, 0) WHEN q.resource IS NOT NULL THEN -1 END,
        CASE WHEN q.resource IS NOT NULL THEN greatest(q.committed + u.held - q.quota, 0) END,
        q.period, nullif(q.period_start, '-infinity'), nullif(q.period_end, 'infinity')
    FROM _private_subject s
    CROSS JOIN LATERAL unnest(s.ancestors) WITH ORDINALITY h (name)
    JOIN _private_subject t ON t.subject = h.name
    JOIN _private_plan p ON p.plan = t.plan
    LEFT JOIN _private_quota(ARRAY[_private_usage.subject], moment) q ON q.level = h.ordinality - 1
    CROSS JOIN LATERAL (
        SELECT q.held - coalesce(sum(o.amount), 0)::bigint AS held
        FROM _private_hold o
        WHERE (o.root, o.subject, o.resource, o.period_start) = (q.root, q.holder, q.resource, q.period_start)
            AND o.settled_at IS NULL AND o.expires_at <= moment
    ) u
    WHERE s.subject = _private_usage.subject AND h.ordinality - 1 <= top
    ORDER BY h.ordinality, q.resource;
END $$;
COMMENT ON FUNCTION earmark._private_usage IS
    'What a subject and those above him, up to the level `top`, may use and use now; see usage and usage_levels.';
