CREATE OR REPLACE FUNCTION earmark.images_named(images uuid[])
RETURNS TABLE (document jsonb, removal_due boolean)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN QUERY
    SELECT _private_image_document(i), i.remove_objects_at IS NOT NULL
    FROM unnest(images) n (image) JOIN _private_image i ON i.image = n.image;
END $$;
COMMENT ON FUNCTION earmark.images_named IS
'Those of the named images that there are, in any state, and whether the sweeper is still to remove their objects. Errors: QT005.';
