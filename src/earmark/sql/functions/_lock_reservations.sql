CREATE OR REPLACE FUNCTION earmark._private_lock_reservations(requests jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    PERFORM FROM (
        SELECT DISTINCT p.root
        FROM jsonb_array_elements(requests) r
        JOIN _private_reservation p ON p.reservation = (r->>'reservation')::uuid
            AND p.subject = coalesce(r->>'subject', p.subject)
    ) p
    JOIN _private_subject t ON (t.root, t.subject) = (p.root, p.root)
    ORDER BY t.root
    FOR NO KEY UPDATE OF t;
END $$;
COMMENT ON FUNCTION earmark._private_lock_reservations IS
    'Locks the trees of the reservations that requests to settle name, in the one order: by root.';
