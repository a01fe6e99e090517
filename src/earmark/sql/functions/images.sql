CREATE OR REPLACE FUNCTION earmark.images(subject text, before uuid DEFAULT NULL, max_images int DEFAULT 50)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp SET enable_sort = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_authorize(images.subject);
    RETURN QUERY
    SELECT _private_image_document(i)
    FROM _private_image i
    WHERE i.root = (SELECT s.root FROM _private_subject s WHERE s.subject = images.subject) AND i.subject = images.subject
        AND i.state <> 'deleted' AND i.image < coalesce(images.before, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    ORDER BY i.image DESC
    LIMIT greatest(least(images.max_images, 1000), 0);
END $$;
COMMENT ON FUNCTION earmark.images IS 'The subject''s images, newest first, deleted ones left out, at most 1000 a call; the next page is before the last one.';
