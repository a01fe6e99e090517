CREATE OR REPLACE FUNCTION earmark._private_reacquire(reservation uuid, lines earmark._private_line[], actor text, moment timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    INSERT INTO _private_balance AS b (root, subject, resource, period_start, period_end, ceiling)
    SELECT DISTINCT l.root, l.subject, l.resource, l.period_start, l.period_end, l.quota FROM unnest(lines) l
    ON CONFLICT (root, subject, resource, period_start) DO UPDATE SET ceiling = excluded.ceiling;

    UPDATE _private_hold h
    SET state = 'held', cause = NULL, settled_at = NULL, settled_by = NULL, period_start = l.period_start
    FROM unnest(lines) l
    WHERE (h.root, h.reservation, h.item, h.resource, h.subject) = (l.root, _private_reacquire.reservation, l.item, l.resource, l.subject);

    PERFORM _private_post(ARRAY(
        SELECT ROW(l.root, l.subject, 'reserve', l.resource, l.period_start, _private_reacquire.reservation, l.item, 0, l.amount,
            NULL, coalesce(_private_reacquire.actor, 'deadline'), 'late: taken anew after expiry')::_private_entry
        FROM unnest(lines) l ORDER BY l.item, l.resource, l.level), moment);
END $$;
COMMENT ON FUNCTION earmark._private_reacquire IS
    'Takes the quota of expired holds anew, in today''s period; the journal shows it as a reserve of its own.';
