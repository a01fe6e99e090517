CREATE OR REPLACE FUNCTION earmark._private_settle(requests jsonb, done text, moment timestamptz)
RETURNS earmark._private_seen[] LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    entries _private_entry[];
    seen _private_seen[];
BEGIN
    -- `mine`: this request settles the hold. `settles`: this request or an earlier one of the batch does.
    WITH target AS MATERIALIZED (
        SELECT t.*, e.eligible AND row_number() OVER w = 1 AS mine, e.eligible AS settles,
            first_value(t.actor) OVER w AS settler, first_value(t.cause) OVER w AS why, first_value(t.actual) OVER w AS used
        FROM _private_settle_targets(requests) t
        CROSS JOIN LATERAL (SELECT CASE done
            WHEN 'refunded' THEN t.state = 'committed' AND _private_refundable(t.root, t.owner, t.resource)
            ELSE t.state = 'held' END AS eligible) e
        WINDOW w AS (PARTITION BY t.root, t.reservation, t.item, t.resource, t.subject ORDER BY t.ordinal)
    ), changed AS (
        UPDATE _private_hold h
        SET state = done, settled_at = moment, settled_by = t.actor, cause = CASE done WHEN 'rolled_back' THEN t.cause END,
            committed = CASE done WHEN 'committed' THEN t.actual WHEN 'refunded' THEN h.committed ELSE 0 END
        FROM target t
        WHERE t.mine
            AND (h.root, h.reservation, h.item, h.resource, h.subject) = (t.root, t.reservation, t.item, t.resource, t.subject)
    )
    SELECT array_agg(ROW(
            t.root, t.subject, CASE done WHEN 'committed' THEN 'commit' WHEN 'rolled_back' THEN 'rollback' ELSE 'refund' END,
            t.resource, t.period_start, t.reservation, t.item,
            CASE done WHEN 'committed' THEN t.actual WHEN 'refunded' THEN -t.committed ELSE 0 END,
            CASE done WHEN 'refunded' THEN 0 ELSE -t.amount END,
            CASE done WHEN 'rolled_back' THEN t.cause END, t.actor,
            coalesce(t.reason, CASE WHEN done = 'committed' AND t.expires_at <= moment THEN 'late' END)
        )::_private_entry ORDER BY t.ordinal, t.reservation, t.item, t.resource, t.level) FILTER (WHERE t.mine),
        array_agg(CASE WHEN t.settles
            THEN ROW(t.ordinal, t.owner, t.mine, t.item, t.resource, t.amount,
                CASE done WHEN 'committed' THEN t.used WHEN 'refunded' THEN t.committed ELSE 0 END, done,
                CASE done WHEN 'rolled_back' THEN t.why END, moment, t.settler, t.expires_at)::_private_seen
            ELSE ROW(t.ordinal, t.owner, false, t.item, t.resource, t.amount, t.committed, t.state, t.held_cause, t.settled_at,
                t.settled_by, t.expires_at)::_private_seen END) FILTER (WHERE t.level = 0)
    INTO entries, seen
    FROM target t;
    IF entries IS NOT NULL THEN
        PERFORM _private_post(entries, moment);
    END IF;
    RETURN seen;
END $$;
COMMENT ON FUNCTION earmark._private_settle IS
'Settles what the requests name, each hold at most once and by the first request that names it; done is rolled_back, committed or refunded.
Returns the holds named, as they are after it; see _private_settle_answers. The locks are held by the caller.';
