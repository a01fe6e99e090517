CREATE OR REPLACE FUNCTION earmark._private_returned(detail jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT coalesce(jsonb_object_agg(r.resource, r.amount), '{}')
        FROM (
            SELECT a.key AS resource, sum(a.value::numeric)::bigint AS amount
            FROM jsonb_array_elements_text(detail->'done') item
            CROSS JOIN LATERAL jsonb_each(detail->'items'->item->'returned') a
            GROUP BY a.key
        ) r
        WHERE r.amount > 0
    );
END $$;
COMMENT ON FUNCTION earmark._private_returned IS 'What a settlement gave back, per resource, from its detail.';
