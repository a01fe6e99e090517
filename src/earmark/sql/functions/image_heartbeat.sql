CREATE OR REPLACE FUNCTION earmark.image_heartbeat(image uuid, attempt int, ttl_seconds float8, evidence_seconds float8)
RETURNS TABLE (outcome text, document jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(image_heartbeat.image, NULL);
    alive boolean := coalesce(found.state = 'processing' AND found.attempt = image_heartbeat.attempt, false);
BEGIN
    PERFORM _private_authorize(NULL);
    IF alive THEN
        found := _private_move_image(found, 'processing', ttl_seconds, evidence_seconds);
    END IF;
    RETURN QUERY SELECT CASE
        WHEN alive THEN 'alive'
        WHEN found.state = 'expired' AND found.attempt = image_heartbeat.attempt THEN 'expired'
        ELSE 'stale' END, _private_image_document(found);
END $$;
COMMENT ON FUNCTION earmark.image_heartbeat IS
'A worker''s sign of life: moves the deadline. outcome: alive, expired (its quota went back meanwhile; a success may still count), or stale (cancelled, settled, or another attempt has begun: stop working).';
