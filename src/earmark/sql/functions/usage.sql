CREATE OR REPLACE FUNCTION earmark.usage(subject text)
RETURNS TABLE (plan text, features jsonb, resource text, quota_limit bigint, committed bigint, held bigint, used bigint,
    remaining bigint, over_by bigint, period text, period_start timestamptz, period_end timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := _private_now();
    known record;
BEGIN
    PERFORM _private_authorize(usage.subject);
    SELECT s.root, s.plan, s.anchor INTO known FROM _private_subject s WHERE s.subject = usage.subject;
    IF NOT FOUND THEN
        RETURN QUERY
        SELECT p.plan, p.features, q.resource, coalesce(q.quota, -1), 0::bigint, 0::bigint, 0::bigint, coalesce(q.quota, -1), 0::bigint,
            q.period, nullif(w.period_start, '-infinity'), nullif(w.period_end, 'infinity')
        FROM _private_setting d
        JOIN _private_plan p ON p.plan = d.value
        JOIN _private_plan_quota q ON q.plan = p.plan
        CROSS JOIN LATERAL _private_period('1970-01-01T00:00:00Z', q.period, moment) w
        WHERE d.name = 'default_plan'
        ORDER BY q.resource;
        IF NOT FOUND THEN
            PERFORM _private_raise('QT002', format('Subject %s is unknown.', to_jsonb(usage.subject)),
                jsonb_build_object('subject', usage.subject));
        END IF;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT known.plan, p.features, f.resource, coalesce(f.quota, -1), f.committed, f.held, f.committed + f.held,
        coalesce(greatest(f.quota - f.committed - f.held, 0), -1), coalesce(greatest(f.committed + f.held - f.quota, 0), 0),
        f.period, nullif(f.period_start, '-infinity'), nullif(f.period_end, 'infinity')
    FROM (
        SELECT q.*, q.held - o.overdue AS unexpired FROM _private_quota(ARRAY[usage.subject], moment) q
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(h.amount), 0)::bigint AS overdue
            FROM _private_hold h
            WHERE (h.root, h.subject, h.resource) = (q.root, q.subject, q.resource) AND h.state = 'held'
                AND h.period_start = q.period_start AND h.expires_at <= moment
        ) o
    ) q
    CROSS JOIN LATERAL (SELECT q.resource, q.quota, q.period, q.period_start, q.period_end, q.committed, q.unexpired AS held) f
    JOIN _private_plan p ON p.plan = known.plan
    ORDER BY f.resource;
END $$;
COMMENT ON FUNCTION earmark.usage IS
'What the subject may use and uses now, a row per resource of his plan. quota_limit and remaining are -1 where unlimited; period_start and period_end are NULL for a lifetime.
Overdue holds are not counted as held: they come back before anyone is refused for them. Errors: QT002, QT005.';
