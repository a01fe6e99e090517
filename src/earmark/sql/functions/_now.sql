CREATE OR REPLACE FUNCTION earmark._private_now()
RETURNS timestamptz LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN clock_timestamp();
END $$;
COMMENT ON FUNCTION earmark._private_now IS
    'The only clock deadlines and periods are judged by: the database''s. Read after the locks are held.';
