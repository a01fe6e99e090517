CREATE OR REPLACE FUNCTION earmark._private_settle(settlements earmark._private_settlement[], moment timestamptz)
RETURNS int LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    entries _private_entry[];
BEGIN
    WITH changed AS (
        UPDATE _private_hold h
        SET state = s.state, cause = s.cause, settled_at = moment, settled_by = s.actor,
            committed = CASE s.state
                WHEN 'committed' THEN coalesce((s.amounts->>h.resource)::numeric::bigint, h.amount)
                WHEN 'refunded' THEN h.committed
                ELSE 0 END
        FROM unnest(settlements) s
        WHERE (h.root, h.reservation, h.item) = (s.root, s.reservation, s.item)
            AND CASE s.state
                WHEN 'refunded' THEN h.state = 'committed' AND _private_refundable(h.root, h.subject, h.resource)
                ELSE h.state = 'held' END
        RETURNING s.ordinal, h.*, s.reason, s.actor
    )
    SELECT array_agg(ROW(
        c.root, c.subject,
        CASE c.state WHEN 'committed' THEN 'commit' WHEN 'rolled_back' THEN 'rollback' ELSE 'refund' END,
        c.resource, c.period_start, c.reservation, c.item,
        CASE c.state WHEN 'committed' THEN c.committed WHEN 'rolled_back' THEN 0 ELSE -c.committed END,
        CASE c.state WHEN 'refunded' THEN 0 ELSE -c.amount END,
        c.cause, c.actor, c.reason
    )::_private_entry ORDER BY c.ordinal, c.reservation, c.item, c.resource)
    INTO entries FROM changed c;

    PERFORM _private_post(coalesce(entries, '{}'), moment);
    RETURN coalesce(cardinality(entries), 0);
END $$;
COMMENT ON FUNCTION earmark._private_settle IS
    'Settles items whose subjects'' locks are held, each at most once: what is settled already is passed over. Returns the holds settled.';
