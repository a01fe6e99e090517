CREATE OR REPLACE FUNCTION earmark._private_lock_reservations(requests jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    subjects text[];
BEGIN
    SELECT array_agg(DISTINCT p.subject) INTO subjects
    FROM jsonb_array_elements(requests) r
    JOIN _private_reservation p ON p.reservation = (r->>'reservation')::uuid
        AND p.subject = coalesce(r->>'subject', p.subject);
    PERFORM _private_lock_subjects(subjects);
END $$;
COMMENT ON FUNCTION earmark._private_lock_reservations IS 'Locks the subjects of the reservations that requests to settle name.';
