CREATE OR REPLACE FUNCTION earmark._private_settle_answers(requests jsonb, done text, seen earmark._private_seen[])
RETURNS TABLE (ordinal int, outcome text, subject text, detail jsonb)
LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp SET enable_hashjoin = on AS $$
#variable_conflict use_column
BEGIN
    -- Nothing is to be asked where the only request names the only item, and that was seen.
    IF requests @? '$[*].items' AND (jsonb_array_length(requests) > 1 OR seen IS NULL OR requests @? '$[0].items[1]'
        OR jsonb_typeof(requests->0->'items') = 'object') THEN
        PERFORM _private_check_items(requests);
    END IF;
    RETURN QUERY
    SELECT r.ordinal, coalesce(a.outcome, 'not_found'), a.owner, coalesce(a.detail, '{"items": {}, "done": []}')
    FROM generate_series(1, jsonb_array_length(requests)) r (ordinal)
    LEFT JOIN (
        SELECT i.ordinal, i.owner, CASE
            WHEN bool_or(i.mine) THEN done
            WHEN bool_or(i.refunded) THEN 'already_refunded'
            WHEN bool_and(i.state = done) THEN 'already_' || done
            WHEN bool_or(i.state = 'committed') AND done <> 'committed' THEN 'already_committed'
            WHEN bool_or(i.state = 'rolled_back') THEN 'already_rolled_back'
            ELSE 'not_committed' END AS outcome,
            jsonb_build_object('items', jsonb_object_agg(i.item, i.story),
                'done', coalesce(jsonb_agg(i.item ORDER BY i.item) FILTER (WHERE i.mine), '[]')) AS detail
        FROM (
            SELECT s.ordinal, s.owner, s.item, bool_or(s.mine) AS mine, min(s.state) AS state, bool_or(s.state = 'refunded') AS refunded,
                jsonb_build_object('state', min(s.state), 'cause', min(s.cause), 'at', min(s.settled_at), 'by', min(s.settled_by),
                    'expires_at', min(s.expires_at), 'amounts', jsonb_object_agg(s.resource, s.amount),
                    'committed', jsonb_object_agg(s.resource, s.committed),
                    'returned', coalesce(jsonb_object_agg(s.resource, CASE s.state WHEN 'held' THEN 0 WHEN 'refunded' THEN s.committed
                        ELSE s.amount - s.committed END) FILTER (WHERE done <> 'refunded' OR s.state = 'refunded'), '{}')) AS story
            FROM unnest(seen) s
            GROUP BY s.ordinal, s.owner, s.item
        ) i
        GROUP BY i.ordinal, i.owner
    ) a USING (ordinal)
    ORDER BY r.ordinal;
END $$;
COMMENT ON FUNCTION earmark._private_settle_answers IS
'What became of each of these requests to settle, from the holds they name as they are now; `mine`: this request settled it.
detail: `done`, the items this request settled; `items`, per item what happened, by whom, when and why, and what it returned.';
