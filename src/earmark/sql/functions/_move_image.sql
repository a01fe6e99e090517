CREATE OR REPLACE FUNCTION earmark._private_move_image(
    moved earmark._private_image, state text, ttl_seconds float8, evidence_seconds float8, attempt int DEFAULT NULL, reason text DEFAULT NULL
) RETURNS earmark._private_image LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := _private_now();
BEGIN
    WITH extended AS (
        UPDATE _private_hold h
        SET expires_at = moment + (ttl_seconds + evidence_seconds) * interval '1 second'
        WHERE (h.root, h.reservation, h.item) = (moved.root, moved.reservation, moved.item) AND h.state = 'held'
    )
    UPDATE _private_image i
    SET state = _private_move_image.state, attempt = coalesce(_private_move_image.attempt, i.attempt), reason = _private_move_image.reason,
        updated_at = moment, due_at = moment + ttl_seconds * interval '1 second'
    WHERE (i.root, i.image) = (moved.root, moved.image)
    RETURNING i.* INTO moved;
    RETURN moved;
END $$;
COMMENT ON FUNCTION earmark._private_move_image IS
    'Moves an open image whose lock is held to another open state, with a new stage deadline; its hold outlives that by evidence_seconds. Answers the image as it is then.';
