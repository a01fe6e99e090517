CREATE OR REPLACE FUNCTION earmark._private_settle(requests jsonb, done text, moment timestamptz)
RETURNS TABLE (ordinal int, outcome text, subject text, detail jsonb)
LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    entries _private_entry[];
    ordinals int[];
    items text[];
BEGIN
    WITH chosen AS MATERIALIZED (
        SELECT DISTINCT ON (t.root, t.reservation, t.item, t.resource, t.subject) t.*
        FROM _private_settle_targets(requests) t
        WHERE CASE done
            WHEN 'refunded' THEN t.state = 'committed' AND _private_refundable(t.root, t.owner, t.resource)
            ELSE t.state = 'held' END
        ORDER BY t.root, t.reservation, t.item, t.resource, t.subject, t.ordinal
    ), changed AS (
        UPDATE _private_hold h
        SET state = done, settled_at = moment, settled_by = c.actor, cause = CASE done WHEN 'rolled_back' THEN c.cause END,
            committed = CASE done WHEN 'committed' THEN c.actual WHEN 'refunded' THEN h.committed ELSE 0 END
        FROM chosen c
        WHERE (h.root, h.reservation, h.item, h.resource, h.subject) = (c.root, c.reservation, c.item, c.resource, c.subject)
        RETURNING c.ordinal, h.*, c.reason
    )
    SELECT array_agg(ROW(
            c.root, c.subject, CASE done WHEN 'committed' THEN 'commit' WHEN 'rolled_back' THEN 'rollback' ELSE 'refund' END,
            c.resource, c.period_start, c.reservation, c.item,
            CASE done WHEN 'committed' THEN c.committed WHEN 'refunded' THEN -c.committed ELSE 0 END,
            CASE done WHEN 'refunded' THEN 0 ELSE -c.amount END,
            c.cause, c.settled_by, coalesce(c.reason, CASE WHEN done = 'committed' AND c.expires_at <= moment THEN 'late' END)
        )::_private_entry ORDER BY c.ordinal, c.reservation, c.item, c.resource, c.level),
        array_agg(c.ordinal) FILTER (WHERE c.level = 0), array_agg(c.item) FILTER (WHERE c.level = 0)
    INTO entries, ordinals, items
    FROM changed c;
    IF entries IS NOT NULL THEN
        PERFORM _private_post(entries, moment);
    END IF;
    RETURN QUERY SELECT * FROM _private_settle_answers(requests, done, ordinals, items);
END $$;
COMMENT ON FUNCTION earmark._private_settle IS
'Settles what the requests name, each hold at most once and by the first request that names it; done is rolled_back, committed or refunded.
Answers a row per request, in order. The locks are held by the caller.';
