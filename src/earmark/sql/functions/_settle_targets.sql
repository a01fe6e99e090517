CREATE OR REPLACE FUNCTION earmark._private_settle_targets(requests jsonb)
RETURNS TABLE (ordinal int, request jsonb, root text, subject text, reservation uuid, item text, resource text,
    amount bigint, committed bigint, state text, cause text, settled_at timestamptz, settled_by text, expires_at timestamptz,
    actual bigint)
LANGUAGE sql STABLE SET search_path = earmark, pg_temp AS $$
    SELECT r.ordinality::int, r.value, h.root, h.subject, h.reservation, h.item, h.resource,
        h.amount, h.committed, h.state, h.cause, h.settled_at, h.settled_by, h.expires_at,
        coalesce((coalesce(r.value->'amounts', r.value->'items'->h.item)->>h.resource)::numeric::bigint, h.amount)
    FROM jsonb_array_elements(requests) WITH ORDINALITY r
    JOIN _private_reservation p ON p.reservation = (r.value->>'reservation')::uuid
        AND p.subject = coalesce(r.value->>'subject', p.subject)
    JOIN _private_hold h ON (h.root, h.reservation) = (p.root, p.reservation)
    WHERE coalesce(jsonb_typeof(r.value->'items'), 'null') = 'null' OR r.value->'items' ? h.item
$$;
COMMENT ON FUNCTION earmark._private_settle_targets IS
    'The holds that requests to settle name. With a subject in the request, only his own are found. `items` is absent, an array of names, or an object of names and actual amounts.';
