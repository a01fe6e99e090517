CREATE OR REPLACE FUNCTION earmark.image_hand_over(
    image uuid, attempt int, ttl_seconds float8, evidence_seconds float8, metadata jsonb DEFAULT '{}'
) RETURNS TABLE (outcome text, document jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(image_hand_over.image, NULL);
    next boolean := coalesce(found.state = 'uploaded' AND found.attempt + 1 = image_hand_over.attempt, false);
BEGIN
    PERFORM _private_authorize(NULL);
    IF next THEN
        found := _private_move_image(found, 'processing', ttl_seconds, evidence_seconds, image_hand_over.attempt);
    END IF;
    -- Also where the result was faster than this.
    IF found.attempt = image_hand_over.attempt AND found.metadata = '{}' AND found.state IN ('processing', 'completed')
        AND image_hand_over.metadata <> '{}'
    THEN
        UPDATE _private_image i SET metadata = image_hand_over.metadata
        WHERE (i.root, i.image) = (found.root, found.image) RETURNING i.* INTO found;
    END IF;
    RETURN QUERY SELECT CASE WHEN next THEN 'handed_over' ELSE 'stale' END, _private_image_document(found);
END $$;
COMMENT ON FUNCTION earmark.image_hand_over IS
'uploaded -> processing: a processor outside has taken this attempt, which must be the next one; its result is due within ttl_seconds.
metadata: what was found of it before.
outcome: handed_over, stale (the attempt began already, or is over, or the image is).';
