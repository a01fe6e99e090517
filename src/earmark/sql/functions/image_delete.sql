CREATE OR REPLACE FUNCTION earmark.image_delete(image uuid, subject text, actor text DEFAULT NULL)
RETURNS TABLE (outcome text, returned jsonb, document jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(image_delete.image, image_delete.subject);
    who text := coalesce(image_delete.actor, found.subject);
    amounts jsonb := '{}';
BEGIN
    PERFORM _private_authorize(NULL);
    IF found.image IS NULL OR found.state = 'deleted' THEN
        RETURN QUERY SELECT CASE WHEN found.image IS NULL THEN 'not_found' ELSE 'already_deleted' END, amounts,
            _private_image_document(found);
        RETURN;
    END IF;
    IF found.due_at IS NOT NULL THEN
        SELECT r.returned INTO amounts FROM image_roll_back(found.image, 'cancelled', reason => 'deleted', actor => who) r;
    ELSIF found.state = 'completed' THEN
        SELECT _private_returned(r.detail) INTO amounts FROM refund(jsonb_build_array(jsonb_build_object(
            'reservation', found.reservation, 'items', jsonb_build_array(found.item), 'actor', who, 'reason', 'deleted'))) r;
    END IF;
    UPDATE _private_image i SET state = 'deleted', updated_at = _private_now(), remove_objects_at = _private_now()
    WHERE (i.root, i.image) = (found.root, found.image) RETURNING i.* INTO found;
    RETURN QUERY SELECT 'deleted', amounts, _private_image_document(found);
END $$;
COMMENT ON FUNCTION earmark.image_delete IS
'Any state -> deleted. What a completed image used comes back where the plan marks it as refundable; what an open one held comes back whole. Its objects are removed.
outcome: deleted, already_deleted, not_found.';
