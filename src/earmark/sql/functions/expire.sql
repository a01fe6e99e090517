CREATE OR REPLACE FUNCTION earmark.expire(max_holds int DEFAULT 100, after timestamptz DEFAULT NULL, before timestamptz DEFAULT NULL)
RETURNS TABLE (subject text, reservation uuid, item text, resource text, amount bigint, expired_at timestamptz)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := _private_now();
    latest timestamptz := least(moment, before);
    roots text[];
    reservations uuid[];
    items text[];
    overdue jsonb;
    seen _private_seen[];
BEGIN
    PERFORM _private_authorize(NULL);
    IF max_holds < 0 THEN
        PERFORM _private_raise('QT001', 'max_holds must be a number from 0.', '{"field": "max_holds"}');
    END IF;
    -- Where every item that was found had to be set aside, those behind them must not wait for the next sweep.
    LOOP
        SELECT array_agg(f.root), array_agg(f.reservation), array_agg(f.item) INTO roots, reservations, items
        FROM (
            -- Each in its turn, so that no more trees are locked than are swept, and that subjects are looked up, never read through.
            SELECT h.root, h.reservation, h.item
            FROM (
                SELECT o.root, o.reservation, o.item FROM _private_hold o
                WHERE o.state = 'held' AND o.expires_at BETWEEN coalesce(expire.after, '-infinity') AND latest ORDER BY o.expires_at
            ) h
            JOIN _private_reservation p ON (p.root, p.reservation) = (h.root, h.reservation)
            CROSS JOIN LATERAL (
                SELECT FROM _private_subject t WHERE (t.root, t.subject) = (h.root, h.root) FOR NO KEY UPDATE SKIP LOCKED
            ) t
            LIMIT max_holds
        ) f;

        -- Read again now that the locks are held: a heartbeat or a settlement may have come first.
        SELECT jsonb_agg(_private_expiry(d.reservation, d.items)) INTO overdue
        FROM (
            SELECT h.reservation, array_agg(DISTINCT h.item) AS items
            FROM unnest(roots, reservations, items) f (root, reservation, item)
            CROSS JOIN LATERAL ( -- OFFSET: each is looked up, and not all that is overdue read again, however little that seems to be
                SELECT * FROM _private_hold h WHERE (h.root, h.reservation, h.item) = (f.root, f.reservation, f.item) OFFSET 0
            ) h
            WHERE h.state = 'held' AND h.expires_at <= latest
            GROUP BY h.reservation
        ) d;
        IF overdue IS NULL THEN
            RETURN;
        END IF;
        SELECT o.overdue, o.seen INTO overdue, seen FROM _private_roll_back_overdue(overdue, moment) o;
        EXIT WHEN seen IS NOT NULL;
    END LOOP;
    IF EXISTS (SELECT FROM _private_set_aside) THEN
        DELETE FROM _private_set_aside a
        USING _private_settle_targets(overdue) t
        WHERE (a.root, a.reservation, a.item) = (t.root, t.reservation, t.item);
    END IF;
    RETURN QUERY
    SELECT s.owner, (overdue->(s.ordinal - 1)->>'reservation')::uuid, s.item, s.resource, s.amount, s.expires_at FROM unnest(seen) s;
END $$;
COMMENT ON FUNCTION earmark.expire IS
'Rolls back overdue holds with cause expired, at most about max_holds in one call, oldest first; call again while it returns rows,
with the latest expired_at as after: without it, each call reads past what those before it swept, for as long as an old snapshot needs that.
before: only what was overdue by then.
Trees locked by others are skipped, so any number of sweepers may run. An item that cannot be rolled back is set aside (see set_aside),
with a WARNING, and stops nothing else. Returns the holds given back. Errors: QT001, QT005.';
