CREATE OR REPLACE FUNCTION earmark.set_aside()
RETURNS TABLE (subject text, reservation uuid, item text, error text, times int, at timestamptz, retry_at timestamptz, expires_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN QUERY
    SELECT p.subject, a.reservation, a.item, a.error, a.times, a.at, a.retry_at, a.expires_at
    FROM _private_set_aside a
    JOIN _private_reservation p ON (p.root, p.reservation) = (a.root, a.reservation)
    WHERE EXISTS (
        SELECT FROM _private_hold h
        WHERE (h.root, h.reservation, h.item, h.state) = (a.root, a.reservation, a.item, 'held')
    )
    ORDER BY a.at, a.reservation, a.item;
END $$;
COMMENT ON FUNCTION earmark.set_aside IS
'The overdue items that the sweeper could not roll back and are held still: the last error, how many times and when it was tried,
when it is tried again, and the deadline it had. What is settled, by the sweeper or otherwise, is no longer listed. Errors: QT005.';
