CREATE OR REPLACE FUNCTION earmark.image_wait(image uuid, attempt int, reason text, ttl_seconds float8, evidence_seconds float8,
    only_overdue boolean DEFAULT false, interrupted boolean DEFAULT false)
RETURNS TABLE (outcome text, document jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(image_wait.image, NULL);
    current boolean := coalesce(found.state IN ('uploaded', 'processing') AND found.attempt = image_wait.attempt
        AND (NOT only_overdue OR found.due_at <= _private_now()), false);
BEGIN
    PERFORM _private_authorize(NULL);
    IF current THEN
        found := _private_move_image(found, 'uploaded', ttl_seconds, evidence_seconds, reason => image_wait.reason);
        IF image_wait.interrupted THEN
            UPDATE _private_image i SET interrupted = i.interrupted + 1
            WHERE (i.root, i.image) = (found.root, found.image) RETURNING i.* INTO found;
        END IF;
    END IF;
    RETURN QUERY SELECT CASE WHEN current THEN 'waiting' ELSE 'stale' END, _private_image_document(found);
END $$;
COMMENT ON FUNCTION earmark.image_wait IS
'processing -> uploaded: an attempt failed in a way that may pass, or (only_overdue) its worker gives no sign of life, or (interrupted) its worker is shut down or the store is away, which is no try of the images; the caller enqueues the next one in the same transaction. outcome: waiting, stale.';
