CREATE OR REPLACE FUNCTION earmark.reserve(requests jsonb)
RETURNS TABLE (ordinal int, outcome text, reservation uuid, expires_at timestamptz, replayed boolean, detail jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    asked _private_request[];
    lines _private_line[];
    granted boolean[];
    moment timestamptz;
    released int := 1;
BEGIN
    PERFORM _private_check_reserve(requests);
    PERFORM _private_authorize(r->>'subject') FROM jsonb_array_elements(requests) r;
    PERFORM _private_lock_subjects(ARRAY(SELECT DISTINCT r->>'subject' FROM jsonb_array_elements(requests) r));
    asked := _private_reserve_requests(requests);

    -- A second round only where somebody is short and has overdue holds of his own, which then come back first.
    WHILE released > 0 LOOP
        moment := _private_now();
        lines := _private_reserve_lines(asked, moment);
        granted := _private_decide(lines);
        released := _private_expire_overdue(
            ARRAY(SELECT DISTINCT l.subject FROM unnest(lines) l WHERE NOT granted[l.ordinal]), moment);
    END LOOP;

    SELECT array_agg(ROW(a.ordinal, a.subject, a.key, a.actor, a.request, a.first,
        coalesce(a.outcome, CASE WHEN granted[a.first] THEN 'granted' ELSE 'denied' END),
        coalesce(a.reservation, CASE WHEN a.first = a.ordinal AND (granted[a.ordinal] OR a.key IS NOT NULL)
            THEN _private_new_id(s.root) END),
        coalesce(a.expires_at, moment + (a.request->>'ttl_seconds')::float8 * interval '1 second'),
        a.replayed, coalesce(a.detail, CASE WHEN short IS NOT NULL THEN jsonb_build_object('short', short) END)
        )::_private_request ORDER BY a.ordinal)
    INTO asked
    FROM unnest(asked) a
    JOIN _private_subject s USING (subject)
    LEFT JOIN _private_shortage(lines, granted) USING (ordinal);

    PERFORM _private_write_reserve(asked, lines, moment);
    RETURN QUERY
    SELECT a.ordinal, o.outcome, CASE WHEN o.outcome = 'granted' THEN f.reservation END,
        CASE WHEN o.outcome = 'granted' THEN f.expires_at END, a.replayed OR a.first < a.ordinal,
        CASE WHEN f.request = a.request THEN f.detail ELSE _private_differs(f.request, a.request) END
    FROM unnest(asked) a
    JOIN unnest(asked) f ON f.ordinal = a.first
    CROSS JOIN LATERAL (SELECT CASE WHEN f.request = a.request THEN f.outcome ELSE 'conflict' END AS outcome) o
    ORDER BY a.ordinal;
END $$;
COMMENT ON FUNCTION earmark.reserve IS
'Reserves quota for many requests at once, each whole or not at all, decided in order.
requests: [{subject, items: {item: {resource: amount}}, key?, ttl_seconds? (900), actor?, note?}].
outcome: granted, denied (detail.short says what was missing), or conflict (the key was used for another request; detail.differs).
replayed: the answer stored under the key. Errors: QT001, QT002, QT004, QT005. Locks the subjects; safe to retry with a key.';
