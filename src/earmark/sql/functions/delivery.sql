CREATE OR REPLACE FUNCTION earmark.delivery(image uuid, delivery text)
RETURNS TABLE (document jsonb, answer jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(delivery.image, NULL);
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN QUERY SELECT _private_image_document(found), (SELECT d.answer FROM _private_delivery d
        WHERE (d.root, d.image, d.delivery) = (found.root, found.image, delivery.delivery));
END $$;
COMMENT ON FUNCTION earmark.delivery IS
'Locks the image for the rest of the transaction, and reads what this delivery was answered before: NULL where it is new, or had no effect yet.
document: NULL where there is no such image. Errors: QT005.';
