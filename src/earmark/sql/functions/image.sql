CREATE OR REPLACE FUNCTION earmark.image(image uuid, subject text DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_authorize(image.subject);
    RETURN (
        SELECT _private_image_document(i) FROM _private_image i
        WHERE i.image = image.image AND i.subject = coalesce(image.subject, i.subject)
    );
END $$;
COMMENT ON FUNCTION earmark.image IS 'One image; NULL where there is none or, with a subject, it is not his. Errors: QT005.';
