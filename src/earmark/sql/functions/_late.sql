CREATE OR REPLACE FUNCTION earmark._private_late(requests jsonb, moment timestamptz)
RETURNS TABLE (ordinal int, root text, subject text, reservation uuid, item text, resource text, amount bigint, state text, late text)
LANGUAGE sql STABLE SET search_path = earmark, pg_temp AS $$
    SELECT t.ordinal, t.root, t.subject, t.reservation, t.item, t.resource, t.amount, t.state, coalesce(t.request->>'late', 'reacquire')
    FROM _private_settle_targets(requests) t
    WHERE (t.state = 'rolled_back' AND t.cause = 'expired' AND coalesce(t.request->>'late', 'reacquire') = 'reacquire')
        OR (t.state = 'held' AND t.expires_at <= moment AND t.request->>'late' = 'refuse')
$$;
COMMENT ON FUNCTION earmark._private_late IS
    'Holds that a commit reaches after their deadline and that need a decision: taken anew (reacquire) or given back first (refuse).';
