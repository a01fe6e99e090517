CREATE OR REPLACE FUNCTION earmark._private_seen_now(requests jsonb, extended boolean DEFAULT false)
RETURNS earmark._private_seen[] LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT array_agg(ROW(t.ordinal, t.owner, extended AND t.state = 'held', t.item, t.resource, t.amount, t.committed,
            t.state, t.held_cause, t.settled_at, t.settled_by, t.expires_at)::_private_seen)
        FROM _private_settle_targets(requests) t WHERE t.level = 0
    );
END $$;
COMMENT ON FUNCTION earmark._private_seen_now IS
    'The holds that requests name, as they are; extended: those still held are what the requests dealt with.';
