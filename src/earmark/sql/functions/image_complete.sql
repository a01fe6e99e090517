CREATE OR REPLACE FUNCTION earmark.image_complete(
    image uuid, attempt int, content_type text, metadata jsonb, outputs jsonb, actual jsonb DEFAULT '{}', actor text DEFAULT 'worker'
) RETURNS TABLE (outcome text, document jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(image_complete.image, NULL);
    answer text := 'stale';
    request jsonb;
BEGIN
    PERFORM _private_authorize(NULL);
    IF found.state = 'completed' AND found.attempt = image_complete.attempt THEN
        answer := 'already_completed';
    ELSIF found.state IN ('processing', 'expired') AND found.attempt > 0 AND found.attempt = image_complete.attempt THEN
        IF found.state = 'expired' THEN  -- its objects may be going at this moment
            SELECT i.* INTO found FROM _private_image i WHERE (i.root, i.image) = (found.root, found.image) FOR NO KEY UPDATE;
        END IF;
        IF found.removal_began_at IS NULL THEN
            request := jsonb_build_array(jsonb_build_object(
                'reservation', found.reservation, 'actor', actor,
                'items', CASE actual WHEN '{}' THEN jsonb_build_array(found.item) ELSE jsonb_build_object(found.item, actual) END));
            -- The usual case spares what `commit` checks, locks and tells anew: all of it is known here.
            answer := NULL;
            IF actual = '{}' AND length(actor) <= 200 THEN
                SELECT 'committed' INTO answer FROM unnest(_private_settle(request, 'committed', _private_now())) s WHERE s.mine;
            END IF;
            IF answer IS NULL THEN
                SELECT c.outcome INTO answer FROM commit(request) c;
            END IF;
        ELSE
            answer := 'removed';
        END IF;
        IF answer IN ('committed', 'already_committed') THEN
            answer := 'completed';
            UPDATE _private_image i
            SET state = 'completed', content_type = image_complete.content_type, metadata = image_complete.metadata,
                outputs = image_complete.outputs, cause = NULL, reason = NULL, due_at = NULL, updated_at = _private_now(),
                remove_objects_at = CASE WHEN found.attempt > 1 THEN _private_now() END
            WHERE (i.root, i.image) = (found.root, found.image) RETURNING i.* INTO found;
        ELSIF answer <> 'exceeds_hold' THEN
            UPDATE _private_image i
            SET reason = 'Processed after its time was over, when '
                || CASE answer WHEN 'removed' THEN 'its file had been removed' ELSE 'there was no quota left for it' END
                || '; what was made of it was thrown away.',
                removal_began_at = coalesce(i.removal_began_at, _private_now()), remove_objects_at = _private_now()
            WHERE (i.root, i.image) = (found.root, found.image) RETURNING i.* INTO found;
            answer := 'too_late';
        END IF;
    END IF;
    RETURN QUERY SELECT answer, _private_image_document(found);
END $$;
COMMENT ON FUNCTION earmark.image_complete IS
'processing -> completed, and the hold is committed, at the actual amounts where given. Only the current attempt can.
expired -> completed too, where there is room to take the quota anew, as the journal then says, and the image''s objects are still there.
What earlier attempts may have left in the store is then to be removed.
outcome: completed, already_completed, stale or too_late (its output is to be thrown away; too late, the image''s reason says why), exceeds_hold (actual is more than was held; nothing was done).';
