CREATE OR REPLACE FUNCTION earmark._private_check_items(requests jsonb)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp SET enable_hashjoin = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_raise('QT001', format('Reservation %s has no item %s.', p.reservation, string_agg(to_jsonb(i.item)::text, ', ')),
        jsonb_build_object('field', 'items', 'reservation', p.reservation, 'items', jsonb_agg(i.item)))
    FROM jsonb_array_elements(requests) WITH ORDINALITY r
    CROSS JOIN LATERAL (
        SELECT jsonb_array_elements_text(CASE jsonb_typeof(r.value->'items') WHEN 'array' THEN r.value->'items' END)
        UNION ALL
        SELECT jsonb_object_keys(CASE jsonb_typeof(r.value->'items') WHEN 'object' THEN r.value->'items' END)
    ) i (item)
    JOIN _private_reservation p ON p.reservation = (r.value->>'reservation')::uuid
        AND p.subject = coalesce(r.value->>'subject', p.subject) AND p.outcome = 'granted'
    WHERE NOT EXISTS (SELECT FROM _private_hold h WHERE (h.root, h.reservation, h.item) = (p.root, p.reservation, i.item) OFFSET 0)
    GROUP BY r.ordinality, p.reservation;
END $$;
COMMENT ON FUNCTION earmark._private_check_items IS
'Refuses (QT001) requests to settle items that their reservations do not have: of a misspelt item the work would be free, or the hold stay. A reservation that is not found has its answer.';
