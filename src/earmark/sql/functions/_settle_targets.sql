CREATE OR REPLACE FUNCTION earmark._private_settle_targets(requests jsonb)
RETURNS TABLE (ordinal int, owner text, root text, reservation uuid, item text, resource text, subject text, level smallint,
    period_start timestamptz, amount bigint, committed bigint, state text, cause text, held_cause text, settled_at timestamptz, settled_by text,
    expires_at timestamptz, actual bigint, actor text, reason text, late text)
LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT r.ordinality::int, p.subject, h.root, h.reservation, h.item, h.resource, h.subject, h.level,
        h.period_start, h.amount, h.committed, h.state, r.value->>'cause', h.cause, h.settled_at, h.settled_by, h.expires_at,
        coalesce((coalesce(r.value->'amounts', r.value->'items'->h.item)->>h.resource)::numeric::bigint, h.amount),
        coalesce(r.value->>'actor', p.subject), r.value->>'reason', coalesce(r.value->>'late', 'reacquire')
    FROM jsonb_array_elements(requests) WITH ORDINALITY r
    JOIN _private_reservation p ON p.reservation = (r.value->>'reservation')::uuid
        AND p.subject = coalesce(r.value->>'subject', p.subject)
    CROSS JOIN LATERAL (
        SELECT h.* FROM _private_hold h
        WHERE (h.root, h.reservation) = (p.root, p.reservation) AND coalesce(jsonb_typeof(r.value->'items'), 'null') = 'null'
        UNION ALL
        SELECT h.* -- OFFSET: each item is looked up, and not the reservation read for each, however few items it seems to have
        FROM (
            SELECT jsonb_array_elements_text(CASE jsonb_typeof(r.value->'items') WHEN 'array' THEN r.value->'items' END)
            UNION
            SELECT jsonb_object_keys(CASE jsonb_typeof(r.value->'items') WHEN 'object' THEN r.value->'items' END)
        ) i (item)
        CROSS JOIN LATERAL (
            SELECT * FROM _private_hold h WHERE (h.root, h.reservation, h.item) = (p.root, p.reservation, i.item) OFFSET 0
        ) h
    ) h;
END $$;
COMMENT ON FUNCTION earmark._private_settle_targets IS
'The holds that requests to settle name, at every level, beside what is to be done with them. With a subject in the request, only his own are found. `items` is absent, an array of names, or an object of names and actual amounts.
cause is the one the request states, held_cause the one the hold was rolled back with.';
