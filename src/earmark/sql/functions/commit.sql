CREATE OR REPLACE FUNCTION earmark.commit(requests jsonb)
RETURNS TABLE (ordinal int, outcome text, subject text, detail jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz;
    request jsonb;
    refused jsonb;
BEGIN
    PERFORM _private_authorize(NULL);
    PERFORM _private_check_settle(requests);
    PERFORM _private_lock_reservations(requests);
    moment := _private_now();
    IF _private_commit_is_plain(requests, moment) THEN
        RETURN QUERY SELECT * FROM _private_settle_answers(requests, 'committed',
            _private_settle(requests, 'committed', moment));
        RETURN;
    END IF;

    -- Where one request's answer may hang on what another one did, they come one after another.
    FOR place IN 0 .. jsonb_array_length(requests) - 1 LOOP
        request := jsonb_build_array(requests->place);
        refused := _private_refuse_commit(request, moment);
        IF refused IS NULL THEN
            RETURN QUERY SELECT place + 1, s.outcome, s.subject, s.detail
            FROM _private_settle_answers(request, 'committed', _private_settle(request, 'committed', moment)) s;
        ELSE
            RETURN QUERY SELECT place + 1, refused->>'outcome', a.subject, a.detail || (refused->'detail')
            FROM _private_settle_answers(request, 'committed', _private_seen_now(request)) a;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION earmark.commit IS
'Turns holds into committed use; a commit for less than was held returns the rest at once.
requests: [{reservation, subject?, items?: [item] or {item: {resource: actual}}, amounts?: {resource: actual} (of the only item), late?: reacquire or refuse, grow?: boolean, actor?, reason?}].
outcome: committed, already_committed, already_rolled_back, already_refunded, exceeds_hold (nothing was done), denied (late or grown, and no room left), not_found.
A commit that comes after expiry takes quota anew, no more than was used, where there is room (late = reacquire) or is refused.
With grow, more than was held may be committed: the difference is taken in the period of the hold, at every level, all or nothing.
Errors: QT001, QT005 (a user''s token cannot commit). Locks the subjects'' trees; safe to repeat.';
