CREATE OR REPLACE FUNCTION earmark._private_shortage(lines earmark._private_line[], granted boolean[])
RETURNS TABLE (ordinal int, short jsonb) LANGUAGE plpgsql IMMUTABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH wanted AS (
        SELECT l.ordinal, l.balance, l.subject, l.level, l.resource, l.quota, l.used, sum(l.amount) AS requested
        FROM unnest(lines) l GROUP BY l.ordinal, l.balance, l.subject, l.level, l.resource, l.quota, l.used
    ), met AS (
        SELECT d.ordinal, d.subject, d.level, d.resource, d.requested, coalesce(d.quota, 9223372036854775807) AS quota,
            d.used + coalesce((SELECT sum(g.requested) FROM wanted g
                WHERE g.balance = d.balance AND g.ordinal < d.ordinal AND granted[g.ordinal]), 0) AS used
        FROM wanted d WHERE NOT granted[d.ordinal]
    )
    SELECT m.ordinal, jsonb_agg(jsonb_build_object('subject', m.subject, 'resource', m.resource, 'requested', m.requested, 'quota_limit', m.quota,
        'used', m.used, 'remaining', greatest(m.quota - m.used, 0)) ORDER BY m.resource, m.level)
    FROM met m WHERE m.requested > m.quota - m.used
    GROUP BY m.ordinal;
END $$;
COMMENT ON FUNCTION earmark._private_shortage IS 'For each denied request, the resources it was short of, with whom (subject: himself or one of those above him) and by what figures.';
