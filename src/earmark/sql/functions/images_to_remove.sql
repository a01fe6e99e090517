CREATE OR REPLACE FUNCTION earmark.images_to_remove(max_images int DEFAULT 100)
RETURNS SETOF jsonb LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    moment timestamptz := _private_now();
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN QUERY
    WITH due AS MATERIALIZED (
        SELECT i.root, i.image FROM _private_image i
        WHERE i.remove_objects_at <= moment ORDER BY i.remove_objects_at LIMIT max_images
        FOR NO KEY UPDATE SKIP LOCKED
    ), begun AS (
        UPDATE _private_image i SET removal_began_at = coalesce(i.removal_began_at, CASE WHEN i.state <> 'completed' THEN moment END)
        FROM due d WHERE (i.root, i.image) = (d.root, d.image)
        RETURNING i
    )
    SELECT _private_image_document(b.i) FROM begun b;
END $$;
COMMENT ON FUNCTION earmark.images_to_remove IS
'Images whose objects are to be removed from the store now, of completed ones those that their document does not name; a success that comes from then on counts no more. Those that another transaction is about are left for the next call.';
