CREATE OR REPLACE FUNCTION earmark._private_late_lines(request jsonb, moment timestamptz)
RETURNS earmark._private_line[] LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        -- What the plan has ceased to count, and who is no longer above him, has a quota of nothing.
        SELECT array_agg(ROW(1, l.item, l.amount, l.balance, l.root, l.subject, l.level, l.resource, l.period_start, l.period_end,
            l.quota, l.used)::_private_line)
        FROM (
            SELECT t.item, t.root, t.subject, t.level, t.resource, p.period_start, CASE p.period_start WHEN q.period_start THEN q.period_end
                    ELSE coalesce(b.period_end, q.period_end) END AS period_end,
                CASE WHEN q.resource IS NULL THEN 0 ELSE q.quota END AS quota, coalesce(b.committed + b.held, 0) AS used,
                CASE t.state WHEN 'held' THEN t.actual - t.amount ELSE greatest(t.actual, 1) END AS amount,
                dense_rank() OVER (ORDER BY t.root, t.subject, t.resource, p.period_start)::int AS balance
            FROM _private_settle_targets(request) t
            CROSS JOIN (SELECT coalesce((request->0->>'grow')::boolean, false)) g (grows)
            LEFT JOIN _private_quota(ARRAY(SELECT DISTINCT n.owner FROM _private_settle_targets(request) n), moment) q
                ON (q.holder, q.resource) = (t.subject, t.resource)
            CROSS JOIN LATERAL (SELECT CASE t.state WHEN 'held' THEN t.period_start ELSE q.period_start END) p (period_start)
            LEFT JOIN LATERAL (
                SELECT * FROM _private_balance b
                WHERE (b.root, b.subject, b.resource, b.period_start) = (t.root, t.subject, t.resource, p.period_start) OFFSET 0
            ) b ON true
            WHERE (t.state = 'rolled_back' AND t.held_cause = 'expired' AND t.late = 'reacquire')
                OR (g.grows AND t.state = 'held' AND t.actual > t.amount)
        ) l
    );
END $$;
COMMENT ON FUNCTION earmark._private_late_lines IS
'What a commit would have to take besides what is held, as lines to decide on; NULL where that is nothing: of what expired, what was used of it (a hold is of 1 at least),
in today''s period, and, where it may grow, what was used beyond the hold, in the period of the hold.';
