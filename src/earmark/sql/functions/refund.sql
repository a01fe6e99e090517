CREATE OR REPLACE FUNCTION earmark.refund(requests jsonb)
RETURNS TABLE (ordinal int, outcome text, subject text, detail jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
    PERFORM _private_authorize(NULL);
    PERFORM _private_check_settle(requests);
    PERFORM _private_lock_reservations(requests);
    PERFORM _private_limit_refund(requests);
    RETURN QUERY SELECT * FROM _private_settle_answers(requests, 'refunded',
        _private_settle(requests, 'refunded', _private_now()));
END $$;
COMMENT ON FUNCTION earmark.refund IS
'Gives back committed use of what was deleted, once per item, and only of resources that the subject''s plan marks as refundable; where
adjustments have left less of it, what is left. An image goes with what it used.
requests: [{reservation, subject?, items?: [item], actor?, reason?}].
outcome: refunded, already_refunded, already_committed (nothing of it is refundable), already_rolled_back, not_committed, not_found.
Errors: QT001, QT005 (a user''s token cannot refund). Locks the subjects'' trees; safe to repeat.';
