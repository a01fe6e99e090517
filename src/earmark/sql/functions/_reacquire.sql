CREATE OR REPLACE FUNCTION earmark._private_reacquire(reservation uuid, lines earmark._private_line[], actor text, moment timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    entries _private_entry[];
BEGIN
    INSERT INTO _private_balance AS b (root, subject, resource, period_start, period_end, ceiling)
    SELECT DISTINCT l.root, l.subject, l.resource, l.period_start, l.period_end, l.quota FROM unnest(lines) l
    ON CONFLICT (root, subject, resource, period_start) DO UPDATE SET ceiling = excluded.ceiling, period_end = excluded.period_end;

    WITH taken AS MATERIALIZED (
        SELECT l.*, p.subject AS owner, h.state, CASE h.state WHEN 'held' THEN h.amount + l.amount ELSE l.amount END AS total,
            CASE h.state WHEN 'held' THEN l.amount ELSE l.amount - h.amount END AS grown
        FROM unnest(lines) l
        JOIN _private_hold h
            ON (h.root, h.reservation, h.item, h.resource, h.subject) = (l.root, _private_reacquire.reservation, l.item, l.resource, l.subject)
        JOIN _private_reservation p ON (p.root, p.reservation) = (h.root, h.reservation)
    ), changed AS (
        UPDATE _private_hold h
        SET state = 'held', cause = NULL, settled_at = NULL, settled_by = NULL, period_start = t.period_start, amount = t.total
        FROM taken t
        WHERE (h.root, h.reservation, h.item, h.resource, h.subject) = (t.root, _private_reacquire.reservation, t.item, t.resource, t.subject)
    )
    SELECT array_agg(ROW(t.root, t.subject, 'reserve', t.resource, t.period_start, _private_reacquire.reservation, t.item, 0, t.amount,
        NULL, coalesce(_private_reacquire.actor, t.owner), concat_ws(', ',
            CASE WHEN t.state <> 'held' THEN 'late: taken anew after expiry' END,
            CASE WHEN t.grown > 0 THEN format('grown: %s more than was held', t.grown) END))::_private_entry ORDER BY t.item, t.resource, t.level)
    INTO entries
    FROM taken t;
    PERFORM _private_post(entries, moment);
END $$;
COMMENT ON FUNCTION earmark._private_reacquire IS
'Takes what a commit needs besides what is held: expired holds anew, as large as what was used, in today''s period, and what held ones grow by, in their own.
The journal shows each as a reserve of its own, and its reason says which. The caller holds the locks, and found room.';
