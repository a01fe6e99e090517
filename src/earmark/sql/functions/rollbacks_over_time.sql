CREATE OR REPLACE FUNCTION earmark.rollbacks_over_time(since timestamptz, step text DEFAULT 'day')
RETURNS TABLE (at timestamptz, causes jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_authorize(NULL);
    IF rollbacks_over_time.step NOT IN ('hour', 'day') THEN
        PERFORM _private_raise('QT001', 'step must be hour or day.', '{"field": "step"}');
    END IF;
    RETURN QUERY
    SELECT s.at, coalesce((
        SELECT jsonb_object_agg(c.cause, c.items) FROM (
            SELECT r.cause, sum(r.items) AS items FROM _private_rollback_hour r
            WHERE r.hour >= s.at AND r.hour < s.at + ('1 ' || rollbacks_over_time.step)::interval
            GROUP BY r.cause) c), '{}')
    FROM (
        -- In UTC, where every day has 24 hours.
        SELECT g.at AT TIME ZONE 'UTC' AS at FROM generate_series(
            date_trunc(rollbacks_over_time.step, rollbacks_over_time.since AT TIME ZONE 'UTC'), _private_now() AT TIME ZONE 'UTC',
            ('1 ' || rollbacks_over_time.step)::interval) g (at)
    ) s
    ORDER BY s.at;
END $$;
COMMENT ON FUNCTION earmark.rollbacks_over_time IS
'How many items were rolled back in each hour or day (UTC) since then, by cause: {cause: items}, {} where none were. As of the last tally. Errors: QT001, QT005.';
