CREATE OR REPLACE FUNCTION earmark.tally(max_entries int DEFAULT 10000)
RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    behind xid8;
    upto xid8;
    counted bigint;
BEGIN
    PERFORM _private_authorize(NULL);
    SELECT t.transaction INTO behind FROM _private_tallied t FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    -- Whole transactions, and only those before which nothing is still running: what belongs together is counted together, and once.
    upto := (pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1)::text::xid8;
    upto := coalesce((
        SELECT j.transaction FROM _private_journal j WHERE j.transaction > behind AND j.transaction <= upto
        ORDER BY j.transaction OFFSET greatest(max_entries, 1) - 1 LIMIT 1), upto);

    WITH entries AS MATERIALIZED (
        SELECT j.* FROM _private_journal j WHERE j.transaction > behind AND j.transaction <= upto
    ), given_back AS MATERIALIZED (
        SELECT DISTINCT e.root, e.reservation, e.item, e.cause, e.at FROM entries e WHERE e.kind = 'rollback'
    ), lasted AS MATERIALIZED (
        SELECT g.cause, extract(epoch FROM g.at - p.created_at) AS seconds
        FROM given_back g JOIN _private_reservation p ON (p.root, p.reservation) = (g.root, g.reservation)
    ), found (metric, cause, le, value) AS (
        -- What a late or growing commit takes anew is a reserve with a reason, and no grant of its own.
        SELECT 'granted', '', 'infinity'::float8, count(DISTINCT (e.root, e.reservation)) FROM entries e WHERE e.kind = 'reserve' AND e.reason IS NULL
        UNION ALL
        SELECT CASE e.kind WHEN 'commit' THEN 'committed' ELSE 'refunded' END, '', 'infinity', count(DISTINCT (e.root, e.reservation, e.item))
        FROM entries e WHERE e.kind IN ('commit', 'refund') GROUP BY e.kind
        UNION ALL
        SELECT 'adjusted', '', 'infinity', count(*) FROM entries e WHERE e.kind = 'adjust'
        UNION ALL
        SELECT 'rolled_back', g.cause, 'infinity', count(*) FROM given_back g GROUP BY g.cause
        UNION ALL
        SELECT 'give_back_seconds', l.cause, 'infinity', sum(l.seconds) FROM lasted l GROUP BY l.cause
        UNION ALL
        SELECT 'give_back', l.cause, b.le, count(*)
        FROM lasted l
        CROSS JOIN LATERAL (
            SELECT min(b.le) AS le FROM unnest('{1,5,15,60,300,900,3600,21600,86400,infinity}'::float8[]) b (le) WHERE l.seconds <= b.le
        ) b
        GROUP BY l.cause, b.le
    ), by_hour AS (
        INSERT INTO _private_rollback_hour AS r (hour, cause, items)
        SELECT date_trunc('hour', g.at, 'UTC'), g.cause, count(*) FROM given_back g GROUP BY 1, 2
        ON CONFLICT (hour, cause) DO UPDATE SET items = r.items + excluded.items
    ), written AS (
        INSERT INTO _private_tally AS t (metric, cause, le, value)
        SELECT f.metric, coalesce(f.cause, ''), f.le, f.value FROM found f WHERE f.value <> 0
        ON CONFLICT (metric, cause, le) DO UPDATE SET value = t.value + excluded.value
    )
    SELECT count(*) INTO counted FROM entries;
    UPDATE _private_tallied SET transaction = upto WHERE upto > behind;
    RETURN counted;
END $$;
COMMENT ON FUNCTION earmark.tally IS
'Counts what was added to the journal since the last call, for health and rollbacks_over_time: about max_entries at most, and how many it were; call again while they are so many.
Every committed entry is counted once. One caller counts at a time; another one answers 0. Entries appear when no transaction that began before them is still running. Errors: QT005.';
