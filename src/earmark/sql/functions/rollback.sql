CREATE OR REPLACE FUNCTION earmark.rollback(requests jsonb)
RETURNS TABLE (ordinal int, outcome text, subject text, detail jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
    PERFORM _private_check_settle(requests, needs_cause => true);
    PERFORM _private_lock_reservations(requests);
    RETURN QUERY SELECT * FROM _private_settle_answers(requests, 'rolled_back',
        _private_settle(requests, 'rolled_back', _private_now()));
END $$;
COMMENT ON FUNCTION earmark.rollback IS
'Gives back what holds took: exactly the stored amounts, exactly once.
requests: [{reservation, cause, subject?, items?: [item], actor?, reason?}]; with a subject, only his own are found.
outcome: rolled_back, already_rolled_back, already_committed, already_refunded, not_found; detail names the items this request gave back (done) and says, per item, what happened, when and by whom.
Errors: QT001, QT005. Locks the subjects'' trees; safe to repeat.';
