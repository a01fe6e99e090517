CREATE OR REPLACE FUNCTION earmark._private_image_document(image uuid)
RETURNS jsonb LANGUAGE sql STABLE SET search_path = earmark, pg_temp AS $$
    SELECT to_jsonb(i) - '{root,remove_objects_at,removal_began_at,change}'::text[] FROM _private_image i WHERE i.image = _private_image_document.image
$$;
COMMENT ON FUNCTION earmark._private_image_document IS 'An image as the functions answer it.';
