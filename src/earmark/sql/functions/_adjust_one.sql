CREATE OR REPLACE FUNCTION earmark._private_adjust_one(request jsonb, moment timestamptz, OUT outcome text, OUT detail jsonb)
LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    who CONSTANT text := request->>'subject';
    what CONSTANT text := request->>'resource';
    change CONSTANT bigint := (request->>'amount')::numeric;
    lines jsonb;
    short jsonb;
BEGIN
    SELECT jsonb_agg(to_jsonb(q) ORDER BY q.level) INTO lines FROM _private_quota(ARRAY[who], moment) q WHERE q.resource = what;
    IF lines IS NULL THEN
        PERFORM _private_raise('QT004', format('The plan of subject %s does not count %s.', to_jsonb(who), what),
            jsonb_build_object('subject', who, 'resource', what));
    END IF;
    SELECT jsonb_agg(jsonb_build_object('subject', l.holder, 'lowest', r.lowest, 'highest', r.highest) ORDER BY l.level) INTO short
    FROM jsonb_to_recordset(lines) l (root text, holder text, level int, period_start timestamptz, committed bigint, held bigint)
    CROSS JOIN LATERAL _private_adjust_range(change, l.root, l.holder, what, l.period_start, l.committed, l.held) r
    WHERE change < r.lowest OR change > r.highest;
    outcome := CASE WHEN short IS NULL THEN 'adjusted' ELSE 'denied' END;

    IF outcome = 'adjusted' THEN
        INSERT INTO _private_balance AS b (root, subject, resource, period_start, period_end, ceiling)
        SELECT l.root, l.holder, what, l.period_start, l.period_end,
            CASE WHEN l.quota IS NOT NULL THEN greatest(l.quota, l.committed + l.held + greatest(change, 0)) END
        FROM jsonb_to_recordset(lines) l (root text, holder text, period_start timestamptz, period_end timestamptz, quota bigint,
            committed bigint, held bigint)
        ON CONFLICT (root, subject, resource, period_start) DO UPDATE SET ceiling = excluded.ceiling, period_end = excluded.period_end;
        PERFORM _private_post(ARRAY(
            SELECT ROW(l.root, l.holder, 'adjust', what, l.period_start, NULL, NULL, change, 0, NULL, request->>'actor',
                CASE WHEN l.holder = who THEN '' ELSE format('of %s: ', who) END || (request->>'reason'))::_private_entry
            FROM jsonb_to_recordset(lines) l (root text, holder text, level int, period_start timestamptz) ORDER BY l.level), moment);
    END IF;
    detail := jsonb_strip_nulls(jsonb_build_object('short', short, 'levels', (
        SELECT jsonb_agg(jsonb_build_object('subject', q.holder, 'quota_limit', coalesce(q.quota, -1), 'committed', q.committed,
            'held', q.held, 'used', q.committed + q.held,
            'remaining', CASE WHEN q.quota IS NULL THEN -1 ELSE greatest(q.quota - q.committed - q.held, 0) END,
            'over_by', greatest(q.committed + q.held - q.quota, 0)) ORDER BY q.level)
        FROM _private_quota(ARRAY[who], moment) q WHERE q.resource = what)));
END $$;
COMMENT ON FUNCTION earmark._private_adjust_one IS
    'Adjusts committed use by one request, at the subject and all above him, or at none of them. The lock is held by the caller.';
