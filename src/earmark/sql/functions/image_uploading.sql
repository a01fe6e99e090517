CREATE OR REPLACE FUNCTION earmark.image_uploading(image uuid)
RETURNS TABLE (outcome text, document jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(image_uploading.image, NULL);
BEGIN
    PERFORM _private_authorize(NULL);
    IF found.state = 'reserved' THEN
        UPDATE _private_image i SET state = 'uploading', updated_at = _private_now()
        WHERE (i.root, i.image) = (found.root, found.image) RETURNING i.* INTO found;
    END IF;
    RETURN QUERY SELECT CASE
        WHEN found.image IS NULL THEN 'not_found'
        WHEN found.state IN ('reserved', 'uploading') THEN 'uploading'
        WHEN found.state IN ('uploaded', 'processing', 'completed') THEN 'already_uploaded'
        ELSE 'over' END, _private_image_document(found);
END $$;
COMMENT ON FUNCTION earmark.image_uploading IS
'reserved -> uploading: the first byte has come. outcome: uploading, already_uploaded, over (the quota was given back), not_found.';
