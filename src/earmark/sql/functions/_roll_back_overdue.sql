CREATE OR REPLACE FUNCTION earmark._private_roll_back_overdue(INOUT overdue jsonb, moment timestamptz, OUT seen earmark._private_seen[])
LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    seen := _private_settle(overdue, 'rolled_back', moment);
EXCEPTION WHEN OTHERS THEN
    IF NOT _private_is_about_a_row(SQLSTATE) THEN
        RAISE;
    END IF;
    overdue := _private_expire_each(overdue, moment);
    seen := _private_seen_now(overdue);
END $$;
COMMENT ON FUNCTION earmark._private_roll_back_overdue IS
'Rolls overdue items back, and sets aside those that cannot be. overdue: the requests of the others; seen: their holds, NULL where there are none.
The locks are held by the caller.';
