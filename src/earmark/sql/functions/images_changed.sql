CREATE OR REPLACE FUNCTION earmark.images_changed(subject text, after bigint, max_images int DEFAULT 100)
RETURNS TABLE (change bigint, document jsonb)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN QUERY
    SELECT i.change, _private_image_document(i)
    FROM _private_image i
    WHERE i.root = (SELECT s.root FROM _private_subject s WHERE s.subject = images_changed.subject)
        AND i.subject = images_changed.subject AND i.change > images_changed.after
    ORDER BY i.change
    LIMIT greatest(least(images_changed.max_images, 1000), 0);
END $$;
COMMENT ON FUNCTION earmark.images_changed IS
'The subject''s images whose latest change came after that one, in the order of changes, each as it is now, deleted ones too; at most 1000 a call,
the next are after the last one''s change. Errors: QT005.';
