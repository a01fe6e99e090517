CREATE OR REPLACE FUNCTION earmark.image_lost(image uuid, reason text, actor text)
RETURNS TABLE (outcome text, returned jsonb, document jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(image_lost.image, NULL);
    amounts jsonb := '{}';
    moment timestamptz := _private_now();
BEGIN
    PERFORM _private_authorize(NULL);
    IF found.state IS DISTINCT FROM 'completed' THEN
        RETURN QUERY SELECT CASE WHEN found.image IS NULL THEN 'not_found' ELSE 'not_completed' END, amounts,
            _private_image_document(found);
        RETURN;
    END IF;
    SELECT _private_returned(r.detail) INTO amounts FROM refund(jsonb_build_array(jsonb_build_object(
        'reservation', found.reservation, 'items', jsonb_build_array(found.item), 'actor', actor, 'reason', reason))) r;
    UPDATE _private_image i
    SET state = 'failed', reason = image_lost.reason, outputs = '{}', updated_at = moment,
        removal_began_at = moment, remove_objects_at = moment
    WHERE (i.root, i.image) = (found.root, found.image) RETURNING i.* INTO found;
    RETURN QUERY SELECT 'lost', amounts, _private_image_document(found);
END $$;
COMMENT ON FUNCTION earmark.image_lost IS
'completed -> failed: its object is gone from the store, or is not the one that was uploaded. What its plan marks as refundable comes back, journaled as a refund with the reason;
what is left of its objects is removed. outcome: lost, not_completed, not_found. Errors: QT005.';
