CREATE OR REPLACE FUNCTION earmark.decrement_user_image_count(
    p_user_id uuid, p_count int DEFAULT 1, p_cause text DEFAULT 'cancelled', p_reservation_id uuid DEFAULT NULL
) RETURNS TABLE (used bigint, quota_limit bigint, remaining bigint, rolled_back bigint)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    returned bigint;
BEGIN
    IF p_count IS NULL OR p_count < 1 THEN
        PERFORM _private_raise('QT001', 'p_count must be 1 or more.', jsonb_build_object('p_count', p_count));
    ELSIF p_reservation_id IS NULL THEN
        SELECT coalesce(sum((r.returned->>'images')::bigint), 0) INTO returned
        FROM rollback_newest(p_user_id::text, 'images', p_count, p_cause) r;
    ELSE
        SELECT coalesce((_private_returned(r.detail)->>'images')::bigint, 0) INTO returned
        FROM rollback(jsonb_build_array(jsonb_build_object(
            'reservation', p_reservation_id, 'subject', p_user_id::text, 'cause', p_cause))) r;
    END IF;
    RETURN QUERY SELECT q.used, q.quota_limit, q.remaining, returned FROM get_user_quota(p_user_id) q;
END $$;
COMMENT ON FUNCTION earmark.decrement_user_image_count IS
'Gives back at most p_count of the user''s own open slots, newest first, or all that is open of one reservation; never what is committed. rolled_back says how many came back.';
