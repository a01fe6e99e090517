CREATE OR REPLACE FUNCTION earmark._private_image_document(image earmark._private_image)
RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN CASE WHEN image.image IS NOT NULL THEN to_jsonb(image) - '{root,remove_objects_at,removal_began_at,change}'::text[] END;
END $$;
COMMENT ON FUNCTION earmark._private_image_document IS 'An image as the functions answer it; NULL for none.';
