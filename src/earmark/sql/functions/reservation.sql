CREATE OR REPLACE FUNCTION earmark.reservation(reservation uuid, subject text DEFAULT NULL)
RETURNS TABLE (subject text, key text, created_at timestamptz, item text, resource text, amount bigint, committed bigint,
    state text, cause text, settled_at timestamptz, settled_by text, expires_at timestamptz, period_start timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
    SELECT _private_authorize(reservation.subject);
    SELECT p.subject, p.key, p.created_at, h.item, h.resource, h.amount, h.committed, h.state, h.cause, h.settled_at, h.settled_by,
        h.expires_at, nullif(h.period_start, '-infinity')
    FROM _private_reservation p
    JOIN _private_hold h USING (root, reservation)
    WHERE p.reservation = reservation.reservation AND p.subject = coalesce(reservation.subject, p.subject) AND h.level = 0
    ORDER BY h.item, h.resource
$$;
COMMENT ON FUNCTION earmark.reservation IS
'The holds of one reservation, a row per item and resource; none where it does not exist or, with a subject, is not his. Errors: QT005.';
