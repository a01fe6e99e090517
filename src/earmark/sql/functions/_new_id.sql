CREATE OR REPLACE FUNCTION earmark._private_new_id(root text)
RETURNS uuid LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    milliseconds bigint := floor(extract(epoch FROM clock_timestamp()) * 1000);
    bytes bytea := substring(int8send(milliseconds) FROM 3) || substring(uuid_send(gen_random_uuid()) FROM 7);
    bucket bytea := sha256(convert_to(root, 'UTF8'));
BEGIN
    bytes := set_byte(bytes, 6, 128 | (get_byte(bucket, 0) & 15));
    bytes := set_byte(bytes, 7, get_byte(bucket, 1));
    RETURN encode(bytes, 'hex')::uuid;
END $$;
COMMENT ON FUNCTION earmark._private_new_id IS
    'A UUID version 8 (RFC 9562): 48 bits of Unix milliseconds, 12 bits of sha256(root) that route the id to its server, 62 random bits.';
