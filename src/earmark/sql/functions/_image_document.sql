CREATE OR REPLACE FUNCTION earmark._private_image_document(image uuid)
RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT to_jsonb(i) - '{root,remove_objects_at,removal_began_at,change}'::text[] FROM _private_image i
        WHERE i.image = _private_image_document.image
    );
END $$;
COMMENT ON FUNCTION earmark._private_image_document IS 'An image as the functions answer it.';
