CREATE OR REPLACE FUNCTION earmark.images_due(
    max_images int DEFAULT 100, after_due timestamptz DEFAULT NULL, after_image uuid DEFAULT NULL
)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
DECLARE
    moment timestamptz := _private_now();
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN QUERY
    SELECT _private_image_document(i) FROM _private_image i
    WHERE i.due_at BETWEEN coalesce(after_due, '-infinity') AND moment AND (after_due IS NULL OR (i.due_at, i.image) > (after_due, after_image))
    ORDER BY i.due_at, i.image LIMIT max_images;
END $$;
COMMENT ON FUNCTION earmark.images_due IS
'Open images whose stage is overdue, longest first: the evidence is to be looked at. after_due, after_image: the last one of the page before.';
