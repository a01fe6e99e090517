CREATE OR REPLACE FUNCTION earmark.image_in_parts(image uuid, upload_id text, part_bytes bigint)
RETURNS TABLE (outcome text, document jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(image_in_parts.image, NULL);
    first boolean := coalesce(found.state IN ('reserved', 'uploading') AND found.upload_id IS NULL, false);
BEGIN
    PERFORM _private_authorize(NULL);
    IF first THEN
        UPDATE _private_image i SET upload_id = image_in_parts.upload_id, part_bytes = image_in_parts.part_bytes
        WHERE (i.root, i.image) = (found.root, found.image) RETURNING i.* INTO found;
    END IF;
    RETURN QUERY SELECT CASE
        WHEN found.image IS NULL THEN 'not_found'
        WHEN first THEN 'begun'
        WHEN found.state IN ('reserved', 'uploading') THEN 'begun_before'
        WHEN found.state IN ('uploaded', 'processing', 'completed') THEN 'already_uploaded'
        ELSE 'over' END, _private_image_document(found);
END $$;
COMMENT ON FUNCTION earmark.image_in_parts IS
'Notes that the file comes in parts of this size, before their addresses are told to anybody; the state stays as it is.
outcome: begun; or the upload of this id is to be aborted: begun_before (another one stands), already_uploaded, over (the quota was given back), not_found. Errors: QT005.';
