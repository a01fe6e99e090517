CREATE OR REPLACE FUNCTION earmark._private_expire_overdue(subjects text[], moment timestamptz)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    overdue jsonb;
BEGIN
    SELECT jsonb_agg(_private_expiry(h.reservation, h.items)) INTO overdue
    FROM (
        SELECT h.reservation, array_agg(DISTINCT h.item) AS items
        FROM _private_subject s
        JOIN _private_hold h ON (h.root, h.subject) = (s.root, s.subject)
        WHERE s.subject = ANY (subjects) AND h.settled_at IS NULL AND h.expires_at <= moment
        GROUP BY h.reservation
    ) h;
    IF overdue IS NULL THEN
        RETURN 0;
    END IF;
    RETURN coalesce((SELECT cardinality(o.seen) FROM _private_roll_back_overdue(overdue, moment) o), 0);
END $$;
COMMENT ON FUNCTION earmark._private_expire_overdue IS
    'Rolls back the overdue holds of subjects whose trees are locked by the caller, but for what has to be set aside; how many came back.';
