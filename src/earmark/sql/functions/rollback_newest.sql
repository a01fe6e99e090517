CREATE OR REPLACE FUNCTION earmark.rollback_newest(
    subject text, resource text, max_amount bigint, cause text DEFAULT 'cancelled', actor text DEFAULT NULL, reason text DEFAULT NULL
) RETURNS TABLE (reservation uuid, item text, returned jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    settlements _private_settlement[] := '{}';
    room bigint := _private_check_amount(to_jsonb(max_amount), 'max_amount');
    candidate record;
BEGIN
    PERFORM _private_check_cause(rollback_newest.cause);
    PERFORM _private_authorize(rollback_newest.subject, rollback_newest.cause);
    PERFORM _private_lock_subjects(ARRAY[rollback_newest.subject]);
    FOR candidate IN
        SELECT h.root, h.reservation, h.item, h.amount
        FROM _private_subject s
        JOIN _private_hold h ON (h.root, h.subject) = (s.root, s.subject)
        WHERE s.subject = rollback_newest.subject AND h.state = 'held' AND h.resource = rollback_newest.resource
        ORDER BY h.reservation DESC, h.item DESC
    LOOP
        EXIT WHEN room = 0;
        CONTINUE WHEN candidate.amount > room;
        room := room - candidate.amount;
        settlements := settlements || ROW(0, candidate.root, candidate.reservation, candidate.item, 'rolled_back',
            rollback_newest.cause, coalesce(rollback_newest.actor, rollback_newest.subject), rollback_newest.reason, NULL
            )::_private_settlement;
    END LOOP;
    PERFORM _private_settle(settlements, _private_now());
    RETURN QUERY
    SELECT h.reservation, h.item, jsonb_object_agg(h.resource, h.amount)
    FROM unnest(settlements) s
    JOIN _private_hold h USING (root, reservation, item)
    GROUP BY h.reservation, h.item;
END $$;
COMMENT ON FUNCTION earmark.rollback_newest IS
'The count form of rollback: gives back the subject''s own open items, newest first, whole, at most max_amount of the resource; nothing that is committed.
Returns the items given back with their amounts. Errors: QT001, QT002, QT005. Locks the subject.';
