CREATE OR REPLACE FUNCTION earmark._private_reserve_requests(requests jsonb)
RETURNS earmark._private_request[] LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT coalesce(array_agg(ROW(
            r.ordinal, s.root, r.subject, r.key, coalesce(r.actor, r.subject), r.request, r.followed,
            CASE WHEN p.request IS NULL THEN r.first ELSE r.ordinal END,
            CASE WHEN p.request IS NULL THEN NULL WHEN p.request = r.request THEN p.outcome ELSE 'conflict' END,
            p.reservation, p.expires_at, p.request IS NOT NULL,
            CASE WHEN p.request = r.request THEN p.detail WHEN p.request IS NOT NULL THEN _private_differs(p.request, r.request) END
        )::_private_request ORDER BY r.ordinal), '{}')
        FROM (
            SELECT ordinality::int AS ordinal, value->>'subject' AS subject, value->'followed' = 'true' AS followed, value->>'key' AS key, value->>'actor' AS actor,
                jsonb_strip_nulls(jsonb_build_object('items', value->'items', 'note', value->'note',
                    'ttl_seconds', coalesce(value->'ttl_seconds', '900'))) AS request,
                CASE WHEN value->>'key' IS NULL THEN ordinality
                    ELSE min(ordinality) OVER (PARTITION BY value->>'subject', value->>'key') END::int AS first
            FROM jsonb_array_elements(requests) WITH ORDINALITY
        ) r
        JOIN _private_subject s ON s.subject = r.subject
        LEFT JOIN LATERAL ( -- OFFSET: the key is looked up, and not every key of the tree read
            SELECT * FROM _private_reservation p WHERE (p.root, p.subject, p.key) = (s.root, s.subject, r.key) OFFSET 0
        ) p ON true
    );
END $$;
COMMENT ON FUNCTION earmark._private_reserve_requests IS
    'Requests to reserve as rows, with what their keys answered before; `first` is the first request of this batch under the same, new key.';
