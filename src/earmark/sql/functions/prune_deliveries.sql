CREATE OR REPLACE FUNCTION earmark.prune_deliveries(older_than_seconds float8, max_deliveries int DEFAULT 10000)
RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    removed bigint;
BEGIN
    PERFORM _private_authorize(NULL);
    WITH old AS (
        SELECT d.root, d.image, d.delivery FROM _private_delivery d
        WHERE d.created_at < _private_now() - older_than_seconds * interval '1 second'
        ORDER BY d.created_at LIMIT max_deliveries
    ), gone AS (
        DELETE FROM _private_delivery d USING old o
        WHERE (d.root, d.image, d.delivery) = (o.root, o.image, o.delivery) RETURNING 1
    )
    SELECT count(*) INTO removed FROM gone;
    RETURN removed;
END $$;
COMMENT ON FUNCTION earmark.prune_deliveries IS
'Forgets old deliveries, oldest first, at most max_deliveries a call; how many. Should one of them come again, the state of its image answers it. Errors: QT005.';
