CREATE OR REPLACE FUNCTION earmark._private_new_id(root text)
RETURNS uuid LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN encode(_private_id_prefix(root, clock_timestamp()) || substring(uuid_send(gen_random_uuid()) FROM 9), 'hex')::uuid;
END $$;
COMMENT ON FUNCTION earmark._private_new_id IS 'An id of something under this root; see _private_id_prefix.';
