CREATE OR REPLACE FUNCTION earmark.images_to_remove(max_images int DEFAULT 100)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
DECLARE
    moment timestamptz := _private_now();
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN QUERY
    SELECT _private_image_document(i.image) FROM _private_image i
    WHERE i.remove_objects_at <= moment ORDER BY i.remove_objects_at LIMIT max_images;
END $$;
COMMENT ON FUNCTION earmark.images_to_remove IS 'Images whose objects are to be removed from the store now; of completed ones, those that their document does not name.';
