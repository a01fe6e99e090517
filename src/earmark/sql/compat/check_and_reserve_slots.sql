CREATE OR REPLACE FUNCTION earmark.check_and_reserve_slots(
    p_user_id uuid, p_count int DEFAULT 1, p_key text DEFAULT NULL, p_ttl_seconds int DEFAULT 900
) RETURNS TABLE (success boolean, used bigint, quota_limit bigint, remaining bigint, reservation_id uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    answer record;
BEGIN
    IF p_count IS NULL OR p_count NOT BETWEEN 1 AND 10000 THEN
        PERFORM _private_raise('QT001', 'p_count must be from 1 to 10000.', jsonb_build_object('p_count', p_count));
    END IF;
    SELECT r.outcome, r.reservation, r.detail INTO answer
    FROM reserve(jsonb_build_array(jsonb_strip_nulls(jsonb_build_object(
        'subject', p_user_id::text, 'key', p_key, 'ttl_seconds', p_ttl_seconds,
        'items', (SELECT jsonb_object_agg(slot, '{"images": 1}'::jsonb) FROM generate_series(1, p_count) slot))))) r;
    IF answer.outcome = 'conflict' THEN
        PERFORM _private_raise('QT001', 'p_key was used before for another request.', answer.detail);
    END IF;
    RETURN QUERY
    SELECT answer.outcome = 'granted', q.used, q.quota_limit, q.remaining, answer.reservation FROM get_user_quota(p_user_id) q;
END $$;
COMMENT ON FUNCTION earmark.check_and_reserve_slots IS
'Takes p_count image slots, each one hold of 1, or none of them. The figures are those after the call; reservation_id is NULL on failure.';
