CREATE OR REPLACE FUNCTION earmark.image_start(image uuid, ttl_seconds float8, evidence_seconds float8)
RETURNS TABLE (outcome text, document jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(image_start.image, NULL);
    free boolean := found.state = 'uploaded' OR (found.state = 'processing' AND found.due_at <= _private_now());
BEGIN
    PERFORM _private_authorize(NULL);
    IF free THEN
        found := _private_move_image(found, 'processing', ttl_seconds, evidence_seconds, found.attempt + 1);
    END IF;
    RETURN QUERY SELECT CASE
        WHEN found.image IS NULL THEN 'not_found'
        WHEN free THEN 'started'
        WHEN found.state = 'processing' THEN 'busy'
        WHEN found.state IN ('reserved', 'uploading') THEN 'too_early'
        WHEN found.state = 'completed' THEN 'completed'
        ELSE 'over' END, _private_image_document(found);
END $$;
COMMENT ON FUNCTION earmark.image_start IS
'uploaded, or processing without a sign of life -> processing, under the next fencing number.
outcome: started, busy (another worker is alive), too_early (not uploaded yet), completed, over (the quota was given back), not_found.';
