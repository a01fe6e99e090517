CREATE OR REPLACE FUNCTION earmark.image_roll_back(
    image uuid, cause text, subject text DEFAULT NULL, attempt int DEFAULT NULL, reason text DEFAULT NULL, actor text DEFAULT NULL,
    only_overdue boolean DEFAULT false
) RETURNS TABLE (outcome text, returned jsonb, document jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(image_roll_back.image, image_roll_back.subject);
    answer text;
    amounts jsonb := '{}';
BEGIN
    PERFORM _private_authorize(found.subject, image_roll_back.cause);
    IF found.image IS NULL THEN
        answer := 'not_found';
    ELSIF found.due_at IS NOT NULL AND NOT (
        image_roll_back.attempt IS NULL
        OR image_roll_back.attempt = 0 AND found.state IN ('reserved', 'uploading')
        OR (found.state, found.attempt) = ('processing', image_roll_back.attempt)
    ) THEN
        answer := 'stale';
    ELSIF only_overdue AND found.due_at > _private_now() THEN
        answer := 'alive';
    ELSE
        SELECT r.outcome, _private_returned(r.detail) INTO answer, amounts FROM rollback(jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
            'reservation', found.reservation, 'items', jsonb_build_array(found.item), 'subject', found.subject,
            'cause', image_roll_back.cause, 'reason', image_roll_back.reason, 'actor', coalesce(image_roll_back.actor, found.subject))))) r;
        IF answer = 'rolled_back' THEN
            UPDATE _private_image i SET reason = image_roll_back.reason
            WHERE (i.root, i.image) = (found.root, found.image) RETURNING i.* INTO found;
        ELSIF only_overdue AND found.due_at IS NOT NULL THEN
            -- Somebody has settled the hold by hand: nothing comes back, and nobody is waited for any longer.
            UPDATE _private_image i
            SET state = CASE image_roll_back.cause WHEN 'expired' THEN 'expired' ELSE 'failed' END, cause = image_roll_back.cause,
                reason = image_roll_back.reason, due_at = NULL, updated_at = _private_now(), remove_objects_at = _private_now()
            WHERE (i.root, i.image) = (found.root, found.image) RETURNING i.* INTO found;
        END IF;
    END IF;
    RETURN QUERY SELECT answer, amounts, _private_image_document(found);
END $$;
COMMENT ON FUNCTION earmark.image_roll_back IS
'Any open state -> failed, rejected, cancelled or expired, by the cause; the hold is rolled back in the same transaction. With an attempt, only if it is the current one, and with 0 only while the upload is waited for; only_overdue, only if its stage is overdue; then it ends
also where its hold was settled by hand.
outcome: rolled_back, already_rolled_back, already_committed, already_refunded, stale, alive, not_found. Errors: QT001, QT005.';
