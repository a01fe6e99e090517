CREATE OR REPLACE FUNCTION earmark._private_expiry(reservation uuid, items text[])
RETURNS jsonb LANGUAGE plpgsql IMMUTABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN jsonb_build_object('reservation', reservation, 'items', items, 'cause', 'expired', 'actor', 'deadline');
END $$;
COMMENT ON FUNCTION earmark._private_expiry IS 'The request that rolls overdue items back.';
