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
        SELECT h.root, h.reservation, h.item
        FROM _private_hold h
        JOIN _private_subject s USING (root, subject)
        WHERE h.state = 'held' AND h.expires_at <= moment
        ORDER BY h.expires_at
        LIMIT max_holds
        FOR NO KEY UPDATE OF s SKIP LOCKED
    )
    SELECT array_agg(ROW(0, f.root, f.reservation, f.item, NULL, NULL, NULL, NULL, NULL)::_private_settlement)
    INTO overdue
    FROM found f;

    -- Read again now that the locks are held: a heartbeat or a settlement may have come first.
    overdue := ARRAY(
        SELECT DISTINCT ROW(0, h.root, h.reservation, h.item, 'rolled_back', 'expired', 'deadline', NULL, NULL)::_private_settlement
        FROM unnest(overdue) o
        JOIN _private_hold h USING (root, reservation, item)
        WHERE h.state = 'held' AND h.expires_at <= moment);
    BEGIN
        PERFORM _private_settle(overdue, moment);
    EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN
        overdue := _private_expire_each(overdue, moment);
    END;
    RETURN QUERY
    SELECT h.subject, h.reservation, h.item, h.resource, h.amount, h.expires_at
    FROM unnest(overdue) o
    JOIN _private_hold h USING (root, reservation, item);
END $$;
COMMENT ON FUNCTION earmark.expire IS
'Rolls back overdue holds with cause expired, at most about max_holds in one call, oldest first; call again while it returns rows.
Subjects locked by others are skipped, so any number of sweepers may run. What the books do not allow to come back is set aside
for an hour, with a WARNING, and stops nothing else. Returns the holds given back. Errors: QT005.';
