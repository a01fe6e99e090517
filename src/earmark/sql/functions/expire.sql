CREATE OR REPLACE FUNCTION earmark.expire(max_holds int DEFAULT 1000)
RETURNS TABLE (subject text, reservation uuid, item text, resource text, amount bigint, expired_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := _private_now();
    overdue jsonb;
BEGIN
    PERFORM _private_authorize(NULL);
    WITH found AS MATERIALIZED (
        SELECT h.reservation, h.item
        FROM _private_hold h
        JOIN _private_subject t ON (t.root, t.subject) = (h.root, h.root)
        WHERE h.state = 'held' AND h.expires_at <= moment
        ORDER BY h.expires_at
        LIMIT max_holds
        FOR NO KEY UPDATE OF t SKIP LOCKED
    )
    SELECT jsonb_agg(_private_expiry(f.reservation, f.items)) INTO overdue
    FROM (SELECT f.reservation, array_agg(DISTINCT f.item) AS items FROM found f GROUP BY f.reservation) f;

    -- Read again now that the locks are held: a heartbeat or a settlement may have come first.
    SELECT jsonb_agg(_private_expiry(t.reservation, t.items)) INTO overdue
    FROM (
        SELECT t.reservation, array_agg(DISTINCT t.item) AS items
        FROM _private_settle_targets(overdue) t
        WHERE t.state = 'held' AND t.expires_at <= moment
        GROUP BY t.reservation
    ) t;
    IF overdue IS NULL THEN
        RETURN;
    END IF;
    BEGIN
        PERFORM _private_settle(overdue, 'rolled_back', moment);
    EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN
        overdue := _private_expire_each(overdue, moment);
    END;
    RETURN QUERY
    SELECT t.subject, t.reservation, t.item, t.resource, t.amount, t.expires_at
    FROM _private_settle_targets(overdue) t WHERE t.level = 0;
END $$;
COMMENT ON FUNCTION earmark.expire IS
'Rolls back overdue holds with cause expired, at most about max_holds in one call, oldest first; call again while it returns rows.
Trees locked by others are skipped, so any number of sweepers may run. What the books do not allow to come back is set aside
for an hour, with a WARNING, and stops nothing else. Returns the holds given back. Errors: QT005.';
