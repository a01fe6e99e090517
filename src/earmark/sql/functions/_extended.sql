CREATE OR REPLACE FUNCTION earmark._private_extended(requests jsonb, moment timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    entries _private_entry[];
BEGIN
    SELECT array_agg(ROW(t.root, t.subject, 'extend', t.resource, t.period_start, t.reservation, t.item, 0, 0, NULL, t.actor,
        format('until %s UTC: %s', to_char(t.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), t.reason))::_private_entry
        ORDER BY t.ordinal, t.item, t.resource, t.level)
    INTO entries
    FROM _private_settle_targets(requests) t
    WHERE t.state = 'held' AND t.reason IS NOT NULL
        AND t.expires_at = moment + (requests->(t.ordinal - 1)->>'ttl_seconds')::float8 * interval '1 second';
    IF entries IS NULL THEN
        RETURN;
    END IF;
    PERFORM _private_post(entries, moment);
    UPDATE _private_image i
    SET due_at = greatest(i.due_at, t.expires_at), upload_expires_at = greatest(i.upload_expires_at, t.expires_at), updated_at = moment
    FROM _private_settle_targets(requests) t
    WHERE t.state = 'held' AND t.reason IS NOT NULL AND t.level = 0
        AND (i.root, i.reservation, i.item) = (t.root, t.reservation, t.item) AND i.state IN ('reserved', 'uploading');
END $$;
COMMENT ON FUNCTION earmark._private_extended IS
'What follows from deadlines that were moved for a stated reason: an entry of nothing for each hold that moved, so that the journal says who did it and why, and
an upload that has not arrived is waited for as long: a new link to it, not the one that was given out, is good until then. The locks are held by the caller.';
