CREATE OR REPLACE FUNCTION earmark.images_completed(after uuid DEFAULT NULL, max_images int DEFAULT 200)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN QUERY
    SELECT _private_image_document(i) FROM _private_image i
    WHERE i.image > coalesce(images_completed.after, '00000000-0000-0000-0000-000000000000') AND i.state = 'completed'
    ORDER BY i.image
    LIMIT greatest(least(max_images, 1000), 0);
END $$;
COMMENT ON FUNCTION earmark.images_completed IS
'Everybody''s completed images in the order of their ids, at most 1000 a call; the next page is after the last one. Errors: QT005.';
