CREATE OR REPLACE FUNCTION earmark._private_is_about_a_row(state text)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN left(state, 2) <> ALL (ARRAY['08', '40', '53', '54', '55', '57', '58']);
END $$;
COMMENT ON FUNCTION earmark._private_is_about_a_row IS
    'Whether an error tells of the rows at hand: not of the connection, a deadlock, resources, locks, an operator or the system.';
