CREATE OR REPLACE FUNCTION earmark.extend(requests jsonb)
RETURNS TABLE (ordinal int, outcome text, subject text, detail jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
BEGIN
    PERFORM _private_check_settle(requests);
    PERFORM _private_raise('QT001', 'ttl_seconds must be a number above 0, at most ten years.', '{"field": "ttl_seconds"}')
    FROM jsonb_array_elements(requests) r
    WHERE jsonb_typeof(r->'ttl_seconds') IS DISTINCT FROM 'number' OR (r->>'ttl_seconds')::numeric NOT BETWEEN 0.001 AND 315360000;
    PERFORM _private_raise('QT001', 'reason must say why, or be absent.', '{"field": "reason"}')
    FROM jsonb_array_elements(requests) r
    WHERE r->>'reason' = '';
    PERFORM _private_authorize(r->>'subject', NULL, r->>'actor') FROM jsonb_array_elements(requests) r;
    PERFORM _private_lock_reservations(requests);
    moment := _private_now();

    IF (SELECT count(*) > count(DISTINCT (r->>'reservation')::uuid) FROM jsonb_array_elements(requests) r) THEN
        RETURN QUERY
        SELECT r.ordinality::int, e.outcome, e.subject, e.detail
        FROM jsonb_array_elements(requests) WITH ORDINALITY r
        CROSS JOIN LATERAL extend(jsonb_build_array(r.value)) e
        ORDER BY 1;
        RETURN;
    END IF;
    UPDATE _private_hold h
    SET expires_at = greatest(h.expires_at, moment + (requests->(t.ordinal - 1)->>'ttl_seconds')::float8 * interval '1 second')
    FROM _private_settle_targets(requests) t
    WHERE (h.root, h.reservation, h.item, h.resource, h.subject) = (t.root, t.reservation, t.item, t.resource, t.subject)
        AND t.state = 'held';
    IF jsonb_path_exists(requests, '$[*].reason ? (@ != null)') THEN
        PERFORM _private_extended(requests, moment);
    END IF;
    RETURN QUERY SELECT * FROM _private_settle_answers(requests, 'extended', _private_seen_now(requests, extended => true));
END $$;
COMMENT ON FUNCTION earmark.extend IS
'Moves the deadline of what is still held to ttl_seconds from now; never to an earlier time.
requests: [{reservation, ttl_seconds, subject?, items?: [item], actor?, reason?}]; with a reason, the journal says who moved it and why, and an upload
that has not arrived is waited for as long.
outcome: extended, already_committed, already_rolled_back, already_refunded, not_found. Errors: QT001, QT005.';
