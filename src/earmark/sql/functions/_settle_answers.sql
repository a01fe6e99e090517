CREATE OR REPLACE FUNCTION earmark._private_settle_answers(requests jsonb, settlements earmark._private_settlement[], done text)
RETURNS TABLE (ordinal int, outcome text, subject text, detail jsonb)
LANGUAGE sql STABLE SET search_path = earmark, pg_temp AS $$
    WITH target AS (
        SELECT t.*, s.ordinal IS NOT NULL AND t.state = done AS mine
        FROM _private_settle_targets(requests) t
        LEFT JOIN unnest(settlements) s ON (s.ordinal, s.root, s.reservation, s.item) = (t.ordinal, t.root, t.reservation, t.item)
    ), item AS (
        SELECT t.ordinal, t.item, bool_or(t.mine) AS mine,
            jsonb_build_object('state', min(t.state), 'cause', min(t.cause), 'at', min(t.settled_at), 'by', min(t.settled_by),
                'expires_at', min(t.expires_at), 'amounts', jsonb_object_agg(t.resource, t.amount),
                'committed', jsonb_object_agg(t.resource, t.committed)) AS story
        FROM target t GROUP BY t.ordinal, t.item
    ), total AS (
        SELECT r.ordinal, jsonb_object_agg(r.resource, r.returned) AS returned, jsonb_object_agg(r.resource, r.committed) AS committed
        FROM (
            SELECT t.ordinal, t.resource, sum(CASE WHEN done = 'refunded' THEN t.committed ELSE t.amount - t.committed END) AS returned,
                sum(CASE WHEN done = 'committed' THEN t.committed ELSE 0 END) AS committed
            FROM target t WHERE t.mine GROUP BY t.ordinal, t.resource
        ) r GROUP BY r.ordinal
    ), answer AS (
        SELECT t.ordinal, min(t.subject) AS subject, CASE
            WHEN bool_or(t.mine) THEN done
            WHEN bool_and(t.state = done) THEN 'already_' || done
            WHEN bool_or(t.state = 'refunded') THEN 'already_refunded'
            WHEN bool_or(t.state = 'committed') AND done <> 'committed' THEN 'already_committed'
            WHEN bool_or(t.state = 'rolled_back') THEN 'already_rolled_back'
            ELSE 'not_committed' END AS outcome
        FROM target t GROUP BY t.ordinal
    )
    SELECT r.ordinality::int, coalesce(a.outcome, 'not_found'), a.subject, jsonb_build_object(
        'returned', coalesce(t.returned, '{}'), 'committed', coalesce(t.committed, '{}'),
        'done', coalesce((SELECT jsonb_agg(i.item ORDER BY i.item) FROM item i WHERE i.ordinal = r.ordinality AND i.mine), '[]'),
        'items', coalesce((SELECT jsonb_object_agg(i.item, i.story) FROM item i WHERE i.ordinal = r.ordinality), '{}'))
    FROM jsonb_array_elements(requests) WITH ORDINALITY r
    LEFT JOIN answer a ON a.ordinal = r.ordinality
    LEFT JOIN total t ON t.ordinal = r.ordinality
$$;
COMMENT ON FUNCTION earmark._private_settle_answers IS
    'What became of each request to settle: what it did itself (`returned`, `committed`), and per item what happened, by whom, when and why.';
