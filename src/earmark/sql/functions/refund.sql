CREATE OR REPLACE FUNCTION earmark.refund(requests jsonb)
RETURNS TABLE (ordinal int, outcome text, subject text, detail jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    settlements _private_settlement[];
BEGIN
    PERFORM _private_check_settle(requests);
    PERFORM _private_authorize(NULL);
    PERFORM _private_lock_reservations(requests);
    settlements := ARRAY(
        SELECT DISTINCT ON (t.root, t.reservation, t.item) ROW(t.ordinal, t.root, t.reservation, t.item, 'refunded',
            NULL, coalesce(t.request->>'actor', t.subject), t.request->>'reason', NULL)::_private_settlement
        FROM _private_settle_targets(requests) t
        WHERE t.state = 'committed' AND _private_refundable(t.root, t.subject, t.resource)
        ORDER BY t.root, t.reservation, t.item, t.ordinal);
    PERFORM _private_settle(settlements, _private_now());
    RETURN QUERY SELECT * FROM _private_settle_answers(requests, settlements, 'refunded') a ORDER BY a.ordinal;
END $$;
COMMENT ON FUNCTION earmark.refund IS
'Gives back committed use of what was deleted, once per item, and only of resources that the subject''s plan marks as refundable.
requests: [{reservation, subject?, items?: [item], actor?, reason?}].
outcome: refunded, already_refunded, already_committed (nothing of it is refundable), already_rolled_back, not_committed, not_found.
Errors: QT001, QT005 (a user''s token cannot refund). Locks the subjects; safe to repeat.';
