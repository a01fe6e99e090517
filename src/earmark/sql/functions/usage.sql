CREATE OR REPLACE FUNCTION earmark.usage(subject text)
RETURNS TABLE (plan text, features jsonb, resource text, quota_limit bigint, committed bigint, held bigint, used bigint,
    remaining bigint, over_by bigint, period text, period_start timestamptz, period_end timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_authorize(usage.subject);
    RETURN QUERY
    SELECT u.plan, u.features, u.resource, u.quota_limit, u.committed, u.held, u.used, u.remaining, u.over_by, u.period, u.period_start,
        u.period_end
    FROM _private_usage(usage.subject, top => 0::smallint) u;
END $$;
COMMENT ON FUNCTION earmark.usage IS
'What the subject may use and uses now, a row per resource of his plan, or one without a resource where it counts none.
quota_limit and remaining are -1 where unlimited; period_start and period_end are NULL for a lifetime. The figures are his own:
those above him in his tree may have less left, see usage_levels. Overdue holds are not counted as held: they come back before
anyone is refused for them. Errors: QT002, QT005.';
