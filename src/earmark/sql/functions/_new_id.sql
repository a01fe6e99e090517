CREATE OR REPLACE FUNCTION earmark._private_new_id(root text)
RETURNS uuid LANGUAGE sql VOLATILE SET search_path = earmark, pg_temp AS $$
    SELECT encode(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
            || set_byte(substring(h.bucket FROM 1 FOR 2), 0, 128 | (get_byte(h.bucket, 0) & 15))
        FROM 1 FOR 8), 'hex')::uuid
    FROM (SELECT sha256(convert_to(root, 'UTF8')) AS bucket) h
$$;
COMMENT ON FUNCTION earmark._private_new_id IS
    'A UUID version 8 (RFC 9562): 48 bits of Unix milliseconds, 12 bits of sha256(root) that route the id to its server, 62 random bits.';
