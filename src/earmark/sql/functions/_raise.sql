CREATE OR REPLACE FUNCTION earmark._private_raise(state text, message text, detail jsonb DEFAULT '{}')
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = state, MESSAGE = message, DETAIL = detail::text;
END $$;
COMMENT ON FUNCTION earmark._private_raise IS
    'Raises a programmer error: a SQLSTATE of class QT with a JSON object in DETAIL. earmark.errors lists them.';
