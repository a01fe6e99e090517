CREATE OR REPLACE FUNCTION earmark.usage_levels(subject text)
RETURNS TABLE (level int, holder text, plan text, resource text, quota_limit bigint, committed bigint, held bigint, used bigint,
    remaining bigint, over_by bigint, period text, period_start timestamptz, period_end timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_authorize(usage_levels.subject);
    RETURN QUERY
    SELECT u.level::int, u.holder, u.plan, u.resource, u.quota_limit, u.committed, u.held, u.used, u.remaining, u.over_by, u.period,
        u.period_start, u.period_end
    FROM _private_usage(usage_levels.subject, top => 32767::smallint) u;
END $$;
COMMENT ON FUNCTION earmark.usage_levels IS
'What the subject (level 0), his parent (1) and so on up to the root may use and use now: a grant to him needs room with every holder.
A row per level and resource of his own plan, in the words of usage, or one without a resource where the holder''s plan counts none of them. Errors: QT002, QT005.';
