CREATE OR REPLACE FUNCTION earmark.image_outputs_lost(image uuid, outputs text[])
RETURNS TABLE (outcome text, document jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(image_outputs_lost.image, NULL);
BEGIN
    PERFORM _private_authorize(NULL);
    IF found.state = 'completed' THEN
        UPDATE _private_image i SET outputs = i.outputs - image_outputs_lost.outputs, updated_at = _private_now()
        WHERE (i.root, i.image) = (found.root, found.image) RETURNING i.* INTO found;
    END IF;
    RETURN QUERY SELECT CASE
        WHEN found.image IS NULL THEN 'not_found'
        WHEN found.state = 'completed' THEN 'forgotten'
        ELSE 'not_completed' END, _private_image_document(found);
END $$;
COMMENT ON FUNCTION earmark.image_outputs_lost IS
'Forgets outputs of a completed image that are gone from the store; the image stays completed, and its quota as it is. outcome: forgotten, not_completed, not_found. Errors: QT005.';
