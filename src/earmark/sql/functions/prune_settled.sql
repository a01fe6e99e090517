CREATE OR REPLACE FUNCTION earmark.prune_settled(before timestamptz DEFAULT NULL, max_reservations int DEFAULT 1000, after uuid DEFAULT NULL)
RETURNS TABLE (reservations bigint, holds bigint, next_after uuid)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := coalesce(prune_settled.before, _private_retention('reservation'));
    old uuid[];
    roots text[];
BEGIN
    PERFORM _private_authorize(NULL);
    SELECT array_agg(w.reservation) FILTER (WHERE w.created_at < moment AND _private_is_settled(w.root, w.reservation, w.subject, moment)),
        CASE WHEN count(*) >= max_reservations AND bool_or(w.created_at < moment) THEN (array_agg(w.reservation ORDER BY w.reservation DESC))[1] END
    INTO old, next_after
    FROM (
        SELECT p.* FROM _private_reservation p
        WHERE p.reservation > coalesce(prune_settled.after, '00000000-0000-0000-0000-000000000000') AND moment IS NOT NULL
        ORDER BY p.reservation
        LIMIT greatest(max_reservations, 1)
    ) w;

    SELECT array_agg(l.root) INTO roots
    FROM (
        SELECT t.root
        FROM (SELECT DISTINCT p.root FROM unnest(old) o JOIN _private_reservation p ON p.reservation = o) p
        JOIN _private_subject t ON (t.root, t.subject) = (p.root, p.root)
        ORDER BY t.root
        FOR NO KEY UPDATE OF t SKIP LOCKED
    ) l;

    -- Asked again now that the locks are held: a late commit may have come first.
    WITH gone AS (
        DELETE FROM _private_reservation p
        WHERE p.reservation = ANY (old) AND p.root = ANY (roots) AND _private_is_settled(p.root, p.reservation, p.subject, moment)
        RETURNING p.root, p.reservation
    ), freed AS (
        DELETE FROM _private_hold h USING gone g WHERE (h.root, h.reservation) = (g.root, g.reservation) RETURNING h.*
    ), carried AS (
        INSERT INTO _private_carried AS c (root, subject, resource, period_start, holds_committed)
        SELECT f.root, f.subject, f.resource, f.period_start, sum(f.committed) FROM freed f
        WHERE f.state = 'committed' AND f.committed > 0
        GROUP BY f.root, f.subject, f.resource, f.period_start
        ON CONFLICT (root, subject, resource, period_start) DO UPDATE SET holds_committed = c.holds_committed + excluded.holds_committed
    ), unlisted AS (
        DELETE FROM _private_set_aside a USING gone g WHERE (a.root, a.reservation) = (g.root, g.reservation)
    )
    SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM freed) INTO reservations, holds;
    IF next_after IS NULL THEN
        DELETE FROM _private_adjustment a
        USING (SELECT * FROM _private_adjustment o WHERE o.created_at < moment LIMIT greatest(max_reservations, 1)) o
        WHERE (a.root, a.subject, a.key) = (o.root, o.subject, o.key);
    END IF;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION earmark.prune_settled IS
'Removes reservations of which everything was settled before a moment (by default: that of the retention), with their holds and the outcomes under
their keys: from then on such a key is new, and settling such a reservation answers not_found. Committed use stays counted. A reservation of which
something is held, or could still be refunded, stays. What adjust answered under keys goes likewise, with the last batch. Looks at max_reservations, oldest first, and passes over trees locked by others;
next_after is where the next call goes on, NULL when none is left. Errors: QT005. Locks the trees; safe to repeat.';
