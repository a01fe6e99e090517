CREATE OR REPLACE FUNCTION earmark.moment()
RETURNS timestamptz LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
    SELECT _private_now()
$$;
COMMENT ON FUNCTION earmark.moment IS 'The database''s clock, by which all deadlines and periods are judged.';
