CREATE OR REPLACE FUNCTION earmark.expire(max_holds int DEFAULT 1000)
RETURNS TABLE (subject text, reservation uuid, item text, resource text, amount bigint, expired_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := _private_now();
    overdue _private_settlement[];
BEGIN
    PERFORM _private_authorize(NULL);
    WITH found AS MATERIALIZED (
        SELECT h.root, h.subject, h.reservation, h.item
        FROM _private_hold h
        WHERE h.state = 'held' AND h.expires_at <= moment
        ORDER BY h.expires_at
        LIMIT max_holds
    ), locked AS MATERIALIZED (
        SELECT s.root, s.subject
        FROM _private_subject s
        WHERE (s.root, s.subject) IN (SELECT f.root, f.subject FROM found f)
        ORDER BY s.root, s.subject
        FOR NO KEY UPDATE SKIP LOCKED
    )
    SELECT array_agg(DISTINCT ROW(0, f.root, f.reservation, f.item, NULL, NULL, NULL, NULL, NULL)::_private_settlement)
    INTO overdue
    FROM found f
    JOIN locked l USING (root, subject);

    -- Read again now that the locks are held: a heartbeat or a settlement may have come first.
    overdue := ARRAY(
        SELECT DISTINCT ROW(0, h.root, h.reservation, h.item, 'rolled_back', 'expired', 'deadline', NULL, NULL)::_private_settlement
        FROM unnest(overdue) o
        JOIN _private_hold h USING (root, reservation, item)
        WHERE h.state = 'held' AND h.expires_at <= moment);
    PERFORM _private_settle(overdue, moment);
    RETURN QUERY
    SELECT h.subject, h.reservation, h.item, h.resource, h.amount, h.expires_at
    FROM unnest(overdue) o
    JOIN _private_hold h USING (root, reservation, item);
END $$;
COMMENT ON FUNCTION earmark.expire IS
'Rolls back overdue holds with cause expired, at most about max_holds in one call, oldest first; call again while it returns rows.
Subjects locked by others are skipped, so any number of sweepers may run. Returns the holds given back. Errors: QT005.';
