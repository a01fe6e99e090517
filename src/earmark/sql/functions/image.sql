CREATE OR REPLACE FUNCTION earmark.image(image uuid, subject text DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    document jsonb := _private_image_document(image.image);
BEGIN
    PERFORM _private_authorize(image.subject);
    RETURN CASE WHEN document->>'subject' = coalesce(image.subject, document->>'subject') THEN document END;
END $$;
COMMENT ON FUNCTION earmark.image IS 'One image; NULL where there is none or, with a subject, it is not his. Errors: QT005.';
