CREATE OR REPLACE FUNCTION earmark._private_retention(kept text)
RETURNS timestamptz LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (SELECT _private_now() - value::interval FROM _private_setting WHERE name = kept || '_retention');
END $$;
COMMENT ON FUNCTION earmark._private_retention IS 'Up to when reservations or the journal may be pruned; NULL: they are kept for good.';
