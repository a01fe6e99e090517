CREATE OR REPLACE FUNCTION earmark.caller(OUT subject text, OUT service boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
    SELECT * FROM _private_caller()
$$;
COMMENT ON FUNCTION earmark.caller IS
'Whom the functions and views take the caller for: a service, who reaches everybody, or a user, who reaches his subject, or nobody where that is NULL.';
