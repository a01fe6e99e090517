CREATE OR REPLACE FUNCTION earmark._private_is_settled(root text, reservation uuid, owner text, before timestamptz)
RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN NOT EXISTS (
        SELECT FROM _private_hold h
        WHERE (h.root, h.reservation) = (_private_is_settled.root, _private_is_settled.reservation)
            AND (h.state = 'held' OR h.settled_at >= _private_is_settled.before
                OR (h.state = 'committed' AND _private_refundable(h.root, _private_is_settled.owner, h.resource)))
    );
END $$;
COMMENT ON FUNCTION earmark._private_is_settled IS
'Whether all of a reservation was settled before a moment, and nothing of it could still be refunded.';
