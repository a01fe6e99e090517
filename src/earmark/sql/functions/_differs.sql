CREATE OR REPLACE FUNCTION earmark._private_differs(one jsonb, other jsonb)
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT jsonb_build_object('differs', jsonb_agg(key ORDER BY key))
        FROM (
            SELECT key FROM jsonb_object_keys(one || other) key
            WHERE one->key IS DISTINCT FROM other->key
        ) k
    );
END $$;
COMMENT ON FUNCTION earmark._private_differs IS 'The fields in which two JSON objects differ.';
