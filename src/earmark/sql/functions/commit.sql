CREATE OR REPLACE FUNCTION earmark.commit(requests jsonb)
RETURNS TABLE (ordinal int, outcome text, subject text, detail jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    settlements _private_settlement[];
    moment timestamptz;
    refused jsonb;
BEGIN
    PERFORM _private_check_settle(requests);
    PERFORM _private_authorize(NULL);
    PERFORM _private_lock_reservations(requests);
    moment := _private_now();

    refused := _private_exceeding(requests);

    -- Where one request's answer hangs on what another one did, they come one after another.
    IF jsonb_array_length(requests) > 1 AND (refused <> '{}' OR EXISTS (SELECT FROM _private_late(requests, moment))) THEN
        RETURN QUERY
        SELECT r.ordinality::int, c.outcome, c.subject, c.detail
        FROM jsonb_array_elements(requests) WITH ORDINALITY r
        CROSS JOIN LATERAL commit(jsonb_build_array(r.value)) c
        ORDER BY 1;
        RETURN;
    END IF;

    IF refused = '{}' THEN
        refused := _private_admit_late(requests, moment);
    END IF;
    settlements := ARRAY(
        SELECT DISTINCT ON (t.root, t.reservation, t.item) ROW(t.ordinal, t.root, t.reservation, t.item, 'committed',
            NULL, coalesce(t.request->>'actor', t.subject),
            coalesce(t.request->>'reason', CASE WHEN t.expires_at <= moment THEN 'late' END),
            coalesce(t.request->'amounts', CASE jsonb_typeof(t.request->'items') WHEN 'object' THEN t.request->'items'->t.item END)
            )::_private_settlement
        FROM _private_settle_targets(requests) t
        WHERE t.state = 'held' AND NOT refused ? t.ordinal::text
        ORDER BY t.root, t.reservation, t.item, t.ordinal);
    PERFORM _private_settle(settlements, moment);
    RETURN QUERY
    SELECT a.ordinal, coalesce(refused->a.ordinal::text->>'outcome', a.outcome), a.subject,
        a.detail || coalesce(refused->a.ordinal::text->'detail', '{}')
    FROM _private_settle_answers(requests, settlements, 'committed') a
    ORDER BY a.ordinal;
END $$;
COMMENT ON FUNCTION earmark.commit IS
'Turns holds into committed use; a commit for less than was held returns the rest at once.
requests: [{reservation, subject?, items?: [item] or {item: {resource: actual}}, amounts?: {resource: actual} (of the only item), late?: reacquire or refuse, actor?, reason?}].
outcome: committed, already_committed, already_rolled_back, already_refunded, exceeds_hold (nothing was done), denied (late, and no room left), not_found.
A commit that comes after expiry takes quota anew where there is room (late = reacquire) or is refused.
Errors: QT001, QT005 (a user''s token cannot commit). Locks the subjects; safe to repeat.';
