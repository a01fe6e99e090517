CREATE OR REPLACE FUNCTION earmark._private_expire_each(overdue earmark._private_settlement[], moment timestamptz)
RETURNS earmark._private_settlement[] LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    one _private_settlement;
    done _private_settlement[] := '{}';
BEGIN
    FOREACH one IN ARRAY overdue LOOP
        BEGIN
            PERFORM _private_settle(ARRAY[one], moment);
            done := done || one;
        EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN
            RAISE WARNING 'overdue item % of reservation % of % is set aside for an hour: %', one.item, one.reservation, one.root, SQLERRM;
            UPDATE _private_hold h SET expires_at = moment + interval '1 hour'
            WHERE (h.root, h.reservation, h.item) = (one.root, one.reservation, one.item);
        END;
    END LOOP;
    RETURN done;
END $$;
COMMENT ON FUNCTION earmark._private_expire_each IS
    'Rolls overdue items back one by one, setting aside, with a warning, those whose books do not allow it; returns the others.';
