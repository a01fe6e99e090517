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
    SELECT known.plan, p.features, q.resource, coalesce(q.quota, -1), q.committed, u.held, q.committed + u.held,
        CASE WHEN q.quota IS NULL THEN -1 ELSE greatest(q.quota - q.committed - u.held, 0) END,
        greatest(q.committed + u.held - q.quota, 0),
        q.period, nullif(q.period_start, '-infinity'), nullif(q.period_end, 'infinity')
    FROM _private_quota(ARRAY[usage.subject], moment) q
    JOIN _private_plan p ON p.plan = known.plan
    CROSS JOIN LATERAL (
        SELECT q.held - coalesce(sum(h.amount), 0)::bigint AS held
        FROM _private_hold h
        WHERE (h.root, h.subject, h.resource, h.period_start) = (q.root, q.subject, q.resource, q.period_start)
            AND h.state = 'held' AND h.expires_at <= moment
    ) u
    ORDER BY q.resource;
    IF NOT FOUND THEN
        RETURN QUERY
        SELECT p.plan, p.features, NULL, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL,
            NULL::timestamptz, NULL::timestamptz
        FROM _private_plan p WHERE p.plan = known.plan;
    END IF;
END $$;
COMMENT ON FUNCTION earmark.usage IS
'What the subject may use and uses now, a row per resource of his plan, or one without a resource where it counts none.
quota_limit and remaining are -1 where unlimited; period_start and period_end are NULL for a lifetime.
Overdue holds are not counted as held: they come back before anyone is refused for them. Errors: QT002, QT005.';
