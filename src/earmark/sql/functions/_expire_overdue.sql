CREATE OR REPLACE FUNCTION earmark._private_expire_overdue(subjects text[], moment timestamptz)
RETURNS int LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN _private_settle(ARRAY(
        SELECT DISTINCT ROW(0, h.root, h.reservation, h.item, 'rolled_back', 'expired', 'deadline', NULL, NULL)::_private_settlement
        FROM _private_subject s
        JOIN _private_hold h ON (h.root, h.subject) = (s.root, s.subject)
        WHERE s.subject = ANY (subjects) AND h.state = 'held' AND h.expires_at <= moment
    ), moment);
END $$;
COMMENT ON FUNCTION earmark._private_expire_overdue IS
    'Rolls back the overdue holds of subjects whose locks are held by the caller; how many holds came back.';
