CREATE OR REPLACE FUNCTION earmark._private_retry_aside(subjects text[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    UPDATE _private_hold h
    SET expires_at = a.expires_at
    FROM _private_subject s
    JOIN _private_set_aside a ON a.root = s.root
    WHERE s.subject = ANY (subjects)
        AND (h.root, h.reservation, h.item, h.state, h.expires_at) = (a.root, a.reservation, a.item, 'held', a.retry_at);
END $$;
COMMENT ON FUNCTION earmark._private_retry_aside IS
'Lets the sweeper try what it had set aside in the trees of these subjects at once. The locks are held by the caller.';
