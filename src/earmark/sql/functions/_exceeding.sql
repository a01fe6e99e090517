CREATE OR REPLACE FUNCTION earmark._private_exceeding(requests jsonb)
RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    PERFORM _private_raise('QT001', 'amounts is for a reservation of one item; name the items and their amounts in items.',
            '{"field": "amounts"}')
    FROM _private_settle_targets(requests) t
    WHERE t.request ? 'amounts'
    GROUP BY t.ordinal HAVING count(DISTINCT t.item) > 1;
    RETURN coalesce((
        SELECT jsonb_object_agg(e.ordinal, jsonb_build_object('outcome', 'exceeds_hold', 'detail', jsonb_build_object('exceeds', e.holds)))
        FROM (
            SELECT t.ordinal, jsonb_agg(jsonb_build_object('item', t.item, 'resource', t.resource, 'held', t.amount, 'actual', t.actual)) AS holds
            FROM _private_settle_targets(requests) t
            WHERE t.actual > t.amount AND (t.state = 'held'
                OR t.state = 'rolled_back' AND t.cause = 'expired' AND coalesce(t.request->>'late', 'reacquire') = 'reacquire')
            GROUP BY t.ordinal
        ) e), '{}');
END $$;
COMMENT ON FUNCTION earmark._private_exceeding IS 'Requests to commit more than is held, or was until it expired, by ordinal, with the figures.';
