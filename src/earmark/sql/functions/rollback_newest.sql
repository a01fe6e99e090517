CREATE OR REPLACE FUNCTION earmark.rollback_newest(
    subject text, resource text, max_amount bigint, cause text DEFAULT 'cancelled', actor text DEFAULT NULL, reason text DEFAULT NULL
) RETURNS TABLE (reservation uuid, item text, returned jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    reservations uuid[];
    items text[];
    requests jsonb;
    room bigint := _private_check_amount(to_jsonb(max_amount), 'max_amount');
    candidate record;
BEGIN
    PERFORM _private_check_cause(rollback_newest.cause);
    PERFORM _private_check_words(rollback_newest.reason, rollback_newest.actor);
    PERFORM _private_authorize(rollback_newest.subject, rollback_newest.cause, rollback_newest.actor);
    PERFORM _private_lock_subjects(ARRAY[rollback_newest.subject]);
    FOR candidate IN
        SELECT h.reservation, h.item, h.amount
        FROM _private_subject s
        JOIN _private_hold h ON (h.root, h.subject) = (s.root, s.subject)
        WHERE s.subject = rollback_newest.subject AND h.settled_at IS NULL AND h.resource = rollback_newest.resource
            AND h.level = 0
        ORDER BY h.reservation DESC, h.item DESC
    LOOP
        EXIT WHEN room = 0;
        CONTINUE WHEN candidate.amount > room;
        room := room - candidate.amount;
        reservations := reservations || candidate.reservation;
        items := items || candidate.item;
    END LOOP;
    SELECT jsonb_agg(jsonb_build_object('reservation', c.reservation, 'items', c.items, 'cause', rollback_newest.cause,
        'actor', rollback_newest.actor, 'reason', rollback_newest.reason) ORDER BY c.reservation DESC)
    INTO requests
    FROM (
        SELECT n.reservation, array_agg(n.item) AS items FROM unnest(reservations, items) n (reservation, item) GROUP BY n.reservation
    ) c;
    RETURN QUERY
    SELECT (requests->(s.ordinal - 1)->>'reservation')::uuid, s.item, jsonb_object_agg(s.resource, s.amount)
    FROM unnest(_private_settle(requests, 'rolled_back', _private_now())) s
    WHERE s.mine
    GROUP BY s.ordinal, s.item ORDER BY s.ordinal, s.item DESC;
END $$;
COMMENT ON FUNCTION earmark.rollback_newest IS
'The count form of rollback: gives back the subject''s own open items, newest first, whole, at most max_amount of the resource; nothing that is committed.
Returns the items given back with their amounts. Errors: QT001, QT002, QT005. Locks the subject.';
