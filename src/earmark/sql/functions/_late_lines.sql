CREATE OR REPLACE FUNCTION earmark._private_late_lines(request jsonb, moment timestamptz)
RETURNS earmark._private_line[] LANGUAGE sql STABLE SET search_path = earmark, pg_temp AS $$
    -- What the plan has ceased to count has a quota of nothing.
    SELECT array_agg(ROW(1, t.item, t.amount, coalesce(q.balance, 0), t.root, t.subject, t.level, t.resource, q.period_start, q.period_end,
        CASE WHEN q.balance IS NULL THEN 0 ELSE q.quota END, coalesce(q.committed + q.held, 0))::_private_line)
    FROM _private_settle_targets(request) t
    LEFT JOIN (
        SELECT q.*, row_number() OVER ()::int AS balance
        FROM _private_quota(ARRAY(SELECT DISTINCT n.owner FROM _private_settle_targets(request) n), moment) q
    ) q ON (q.holder, q.resource) = (t.subject, t.resource)
    WHERE t.state = 'rolled_back' AND t.held_cause = 'expired' AND t.late = 'reacquire'
$$;
COMMENT ON FUNCTION earmark._private_late_lines IS
    'What a late commit would have to take anew, as lines to decide on; NULL where nothing of it has expired.';
