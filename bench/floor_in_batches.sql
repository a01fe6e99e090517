-- As floor.sql, for many at once: the same rows and the same hash chain, each table written by one statement.
CREATE FUNCTION public.floor_reserve_all(names text[])
RETURNS SETOF uuid LANGUAGE plpgsql SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    moment timestamptz;
BEGIN
    PERFORM FROM (SELECT DISTINCT n.name FROM unnest(names) n (name)) n
    JOIN _private_subject t ON (t.root, t.subject) = (n.name, n.name) ORDER BY t.root FOR NO KEY UPDATE OF t;
    moment := clock_timestamp();
    RETURN QUERY
    WITH chained AS MATERIALIZED (
        SELECT n.*, public.floor_chain(n.head, n.root, n.seq, moment, 'reserve', n.reservation, 1)
            OVER (PARTITION BY n.root ORDER BY n.seq) AS hash
        FROM (
            SELECT s.root, s.subject, s.head, q.quota, gen_random_uuid() AS reservation,
                s.entries + row_number() OVER (PARTITION BY s.root ORDER BY u.ordinality) AS seq
            FROM unnest(names) WITH ORDINALITY u (name)
            JOIN _private_subject s ON (s.root, s.subject) = (u.name, u.name)
            JOIN _private_plan_quota q ON (q.plan, q.resource) = (s.plan, 'images')
        ) n
    ), reserved AS (
        INSERT INTO _private_reservation (root, reservation, subject, outcome, expires_at, created_at)
        SELECT c.root, c.reservation, c.subject, 'granted', moment + interval '15 minutes', moment FROM chained c
    ), held AS (
        INSERT INTO _private_hold (root, reservation, item, resource, subject, period_start, amount, expires_at)
        SELECT c.root, c.reservation, '1', 'images', c.subject, '-infinity', 1, moment + interval '15 minutes' FROM chained c
    ), written AS (
        INSERT INTO _private_journal (root, subject, seq, at, kind, resource, period_start, reservation, item, committed, held, actor, hash)
        SELECT c.root, c.subject, c.seq, moment, 'reserve', 'images', '-infinity', c.reservation, '1', 0, 1, c.subject, c.hash FROM chained c
    ), balanced AS (
        UPDATE _private_balance b SET held = b.held + a.held, ceiling = a.quota
        FROM (SELECT c.root, c.quota, count(*) AS held FROM chained c GROUP BY c.root, c.quota) a
        WHERE (b.root, b.subject, b.resource, b.period_start) = (a.root, a.root, 'images', '-infinity'::timestamptz)
    ), headed AS (
        UPDATE _private_subject s SET entries = l.seq, head = l.hash
        FROM (SELECT DISTINCT ON (c.root) c.* FROM chained c ORDER BY c.root, c.seq DESC) l
        WHERE (s.root, s.subject) = (l.root, l.root)
    )
    SELECT c.reservation FROM chained c;
END $$;

CREATE FUNCTION public.floor_rollback_all(ids uuid[])
RETURNS bigint LANGUAGE plpgsql SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    moment timestamptz;
    given_back bigint;
BEGIN
    PERFORM FROM (SELECT DISTINCT p.root FROM unnest(ids) u (id) JOIN _private_reservation p ON p.reservation = u.id) p
    JOIN _private_subject t ON (t.root, t.subject) = (p.root, p.root) ORDER BY t.root FOR NO KEY UPDATE OF t;
    moment := clock_timestamp();
    WITH chained AS MATERIALIZED (
        SELECT h.*, public.floor_chain(h.head, h.root, h.seq, moment, 'rollback', h.reservation, -h.amount)
            OVER (PARTITION BY h.root ORDER BY h.seq) AS hash
        FROM (
            SELECT h.root, h.reservation, h.item, h.resource, h.subject, h.period_start, h.amount, s.head,
                s.entries + row_number() OVER (PARTITION BY h.root ORDER BY u.ordinality) AS seq
            FROM unnest(ids) WITH ORDINALITY u (id)
            JOIN _private_reservation p ON p.reservation = u.id
            JOIN _private_hold h ON (h.root, h.reservation) = (p.root, p.reservation)
            JOIN _private_subject s ON (s.root, s.subject) = (h.root, h.subject)
            WHERE h.state = 'held'
        ) h
    ), settled AS (
        UPDATE _private_hold h SET state = 'rolled_back', cause = 'cancelled', settled_at = moment, settled_by = c.subject
        FROM chained c
        WHERE (h.root, h.reservation, h.item, h.resource, h.subject) = (c.root, c.reservation, c.item, c.resource, c.subject)
    ), written AS (
        INSERT INTO _private_journal (root, subject, seq, at, kind, resource, period_start, reservation, item, committed, held, cause, actor, hash)
        SELECT c.root, c.subject, c.seq, moment, 'rollback', 'images', '-infinity', c.reservation, '1', 0, -c.amount, 'cancelled', c.subject, c.hash
        FROM chained c
    ), balanced AS (
        UPDATE _private_balance b SET held = b.held - a.held
        FROM (SELECT c.root, sum(c.amount) AS held FROM chained c GROUP BY c.root) a
        WHERE (b.root, b.subject, b.resource, b.period_start) = (a.root, a.root, 'images', '-infinity'::timestamptz)
    ), headed AS (
        UPDATE _private_subject s SET entries = l.seq, head = l.hash
        FROM (SELECT DISTINCT ON (c.root) c.* FROM chained c ORDER BY c.root, c.seq DESC) l
        WHERE (s.root, s.subject) = (l.root, l.root)
    )
    SELECT sum(c.amount) INTO given_back FROM chained c;
    RETURN given_back;
END $$;

CREATE FUNCTION public.floor_link(state bytea, head bytea, who text, seq bigint, moment timestamptz, kind text, id uuid, held bigint)
RETURNS bytea LANGUAGE plpgsql IMMUTABLE SET search_path = pg_temp AS $$
BEGIN
    RETURN sha256(coalesce(state, head) || convert_to(jsonb_build_array(who, who, seq, (extract(epoch FROM moment) * 1000000)::bigint,
        kind, 'images', NULL, id, '1', 0, held, NULL, who, NULL)::text, 'UTF8'));
END $$;
CREATE AGGREGATE public.floor_chain(bytea, text, bigint, timestamptz, text, uuid, bigint) (sfunc = public.floor_link, stype = bytea);
