CREATE OR REPLACE FUNCTION earmark._private_now()
RETURNS timestamptz LANGUAGE sql VOLATILE SET search_path = earmark, pg_temp AS $$
    SELECT clock_timestamp()
$$;
COMMENT ON FUNCTION earmark._private_now IS
    'The only clock deadlines and periods are judged by: the database''s. Read after the locks are held.';
