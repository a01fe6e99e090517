CREATE OR REPLACE FUNCTION earmark._private_settle_answers(requests jsonb, done text, ordinals int[], items text[])
RETURNS TABLE (ordinal int, outcome text, subject text, detail jsonb)
LANGUAGE sql STABLE SET search_path = earmark, pg_temp AS $$
    SELECT r.ordinality::int, coalesce(a.outcome, 'not_found'), a.owner, coalesce(a.detail, '{"items": {}, "done": []}')
    FROM jsonb_array_elements(requests) WITH ORDINALITY r
    LEFT JOIN (
        SELECT i.ordinal, i.owner, CASE
            WHEN bool_or(i.mine) THEN done
            WHEN bool_and(i.state = done) THEN 'already_' || done
            WHEN bool_or(i.refunded) THEN 'already_refunded'
            WHEN bool_or(i.state = 'committed') AND done <> 'committed' THEN 'already_committed'
            WHEN bool_or(i.state = 'rolled_back') THEN 'already_rolled_back'
            ELSE 'not_committed' END AS outcome,
            jsonb_build_object('items', jsonb_object_agg(i.item, i.story),
                'done', coalesce(jsonb_agg(i.item ORDER BY i.item) FILTER (WHERE i.mine), '[]')) AS detail
        FROM (
            SELECT t.ordinal, t.owner, t.item, m.ordinal IS NOT NULL AS mine, min(t.state) AS state, bool_or(t.state = 'refunded') AS refunded,
                jsonb_build_object('state', min(t.state), 'cause', min(t.held_cause), 'at', min(t.settled_at), 'by', min(t.settled_by),
                    'expires_at', min(t.expires_at), 'amounts', jsonb_object_agg(t.resource, t.amount),
                    'committed', jsonb_object_agg(t.resource, t.committed),
                    'returned', coalesce(jsonb_object_agg(t.resource, CASE t.state WHEN 'held' THEN 0 WHEN 'refunded' THEN t.committed
                        ELSE t.amount - t.committed END) FILTER (WHERE done <> 'refunded' OR t.state = 'refunded'), '{}')) AS story
            FROM _private_settle_targets(requests) t
            LEFT JOIN unnest(ordinals, items) AS m (ordinal, item) ON (m.ordinal, m.item) = (t.ordinal, t.item)
            WHERE t.level = 0
            GROUP BY t.ordinal, t.owner, t.item, m.ordinal
        ) i
        GROUP BY i.ordinal, i.owner
    ) a ON a.ordinal = r.ordinality
    ORDER BY 1
$$;
COMMENT ON FUNCTION earmark._private_settle_answers IS
'What became of each request to settle; (ordinals, items) are what this call settled.
detail: `done`, the items this request settled; `items`, per item what happened, by whom, when and why, and what it returned.';
