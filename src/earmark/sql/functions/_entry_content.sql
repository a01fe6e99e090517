CREATE OR REPLACE FUNCTION earmark._private_entry_content(
    root text, subject text, seq bigint, at timestamptz, kind text, resource text, period_start timestamptz, reservation uuid, item text,
    committed bigint, held bigint, cause text, actor text, reason text
) RETURNS bytea LANGUAGE plpgsql IMMUTABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN convert_to(jsonb_build_array(root, subject, seq, (extract(epoch FROM at) * 1000000)::bigint, kind, resource,
        (extract(epoch FROM nullif(period_start, '-infinity')) * 1000000)::bigint, reservation, item, committed, held, cause, actor,
        reason)::text, 'UTF8');
END $$;
COMMENT ON FUNCTION earmark._private_entry_content IS
'What a journal entry''s hash covers besides the hash before: UTF-8 of a JSON array, times in microseconds since 1970, null for a lifetime. hash = sha256(hash before || content).';
