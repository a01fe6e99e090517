CREATE OR REPLACE FUNCTION earmark.schema_files()
RETURNS TABLE (file text, sha256 text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
    SELECT m.file, m.sha256 FROM _private_migration m
$$;
COMMENT ON FUNCTION earmark.schema_files IS
    'The SQL files this schema was made by, so that a client can tell whether it is the schema it was made for.';
