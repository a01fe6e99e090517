CREATE OR REPLACE FUNCTION earmark.image_uploaded(image uuid, subject text, ttl_seconds float8, evidence_seconds float8)
RETURNS TABLE (outcome text, document jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(image_uploaded.image, image_uploaded.subject);
    moves boolean := found.state IN ('reserved', 'uploading');
BEGIN
    PERFORM _private_authorize(NULL);
    IF moves THEN
        found := _private_move_image(found, 'uploaded', ttl_seconds, evidence_seconds);
    END IF;
    RETURN QUERY SELECT CASE
        WHEN found.image IS NULL THEN 'not_found'
        WHEN moves THEN 'uploaded'
        WHEN found.state IN ('uploaded', 'processing', 'completed') THEN 'already_uploaded'
        ELSE 'over' END, _private_image_document(found);
END $$;
COMMENT ON FUNCTION earmark.image_uploaded IS
'reserved or uploading -> uploaded: the object is there and passed the first look; the caller enqueues its job in the same transaction.
outcome: uploaded, already_uploaded (nothing to enqueue), over (the quota was given back), not_found.';
