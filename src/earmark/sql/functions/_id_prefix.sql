CREATE OR REPLACE FUNCTION earmark._private_id_prefix(root text, moment timestamptz)
RETURNS bytea LANGUAGE plpgsql IMMUTABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    bucket bytea := sha256(convert_to(root, 'UTF8'));
BEGIN
    RETURN substring(int8send(floor(extract(epoch FROM moment) * 1000)::bigint) FROM 3)
        || set_byte(substring(bucket FROM 1 FOR 2), 0, 128 | (get_byte(bucket, 0) & 15));
END $$;
COMMENT ON FUNCTION earmark._private_id_prefix IS
'The first 64 bits of an id, a UUID of version 8 (RFC 9562): 48 bits of Unix milliseconds, the version, 12 bits of sha256(root) that route the id to its server.
The other 64 are the variant and 62 random bits, as in a UUID of version 4.';
