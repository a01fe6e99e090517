CREATE OR REPLACE FUNCTION earmark.rollback(requests jsonb)
RETURNS TABLE (ordinal int, outcome text, subject text, detail jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    settlements _private_settlement[];
BEGIN
    PERFORM _private_check_settle(requests, needs_cause => true);
    PERFORM _private_authorize(r->>'subject', r->>'cause') FROM jsonb_array_elements(requests) r;
    PERFORM _private_lock_reservations(requests);
    settlements := ARRAY(
        SELECT DISTINCT ON (t.root, t.reservation, t.item) ROW(t.ordinal, t.root, t.reservation, t.item, 'rolled_back',
            t.request->>'cause', coalesce(t.request->>'actor', t.subject), t.request->>'reason', NULL)::_private_settlement
        FROM _private_settle_targets(requests) t
        WHERE t.state = 'held'
        ORDER BY t.root, t.reservation, t.item, t.ordinal);
    PERFORM _private_settle(settlements, _private_now());
    RETURN QUERY SELECT * FROM _private_settle_answers(requests, settlements, 'rolled_back') a ORDER BY a.ordinal;
END $$;
COMMENT ON FUNCTION earmark.rollback IS
'Gives back what holds took: exactly the stored amounts, exactly once.
requests: [{reservation, cause, subject?, items?: [item], actor?, reason?}]; with a subject, only his own are found.
outcome: rolled_back, already_rolled_back, already_committed, already_refunded, not_found; detail says what was returned and, per item, what happened, when and by whom.
Errors: QT001, QT005. Locks the subjects; safe to repeat.';
