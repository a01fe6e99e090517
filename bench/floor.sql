-- The least that writes what Earmark writes: the same rows and the same hash chain, in statements of one row each. It checks nothing:
-- no period, override, parent, key, deadline, authority or repeat; what it leaves is only good for being measured.
CREATE FUNCTION public.floor_reserve(who text, amount bigint)
RETURNS uuid LANGUAGE plpgsql SET search_path = earmark, pg_temp AS $$
DECLARE
    me _private_subject;
    id uuid := gen_random_uuid();
    moment timestamptz;
    quota bigint;
BEGIN
    SELECT * INTO me FROM _private_subject s WHERE s.subject = who FOR NO KEY UPDATE;
    moment := clock_timestamp();
    SELECT q.quota INTO quota FROM _private_plan_quota q WHERE q.plan = me.plan AND q.resource = 'images';
    UPDATE _private_balance b SET held = held + amount, ceiling = quota
    WHERE (b.root, b.subject, b.resource, b.period_start) = (me.root, me.subject, 'images', '-infinity'::timestamptz);
    IF NOT FOUND THEN
        INSERT INTO _private_balance (root, subject, resource, period_start, period_end, held, ceiling)
        VALUES (me.root, me.subject, 'images', '-infinity', 'infinity', amount, quota);
    END IF;
    INSERT INTO _private_reservation (root, reservation, subject, outcome, expires_at, created_at)
    VALUES (me.root, id, me.subject, 'granted', moment + interval '15 minutes', moment);
    INSERT INTO _private_hold (root, reservation, item, resource, subject, period_start, amount, expires_at)
    VALUES (me.root, id, '1', 'images', me.subject, '-infinity', amount, moment + interval '15 minutes');
    PERFORM public.floor_post(me, moment, 'reserve', id, amount);
    RETURN id;
END $$;

CREATE FUNCTION public.floor_rollback(id uuid)
RETURNS bigint LANGUAGE plpgsql SET search_path = earmark, pg_temp AS $$
DECLARE
    me _private_subject;
    hold _private_hold;
    moment timestamptz;
BEGIN
    SELECT s.* INTO me FROM _private_reservation p JOIN _private_subject s USING (root, subject) WHERE p.reservation = id
    FOR NO KEY UPDATE OF s;
    moment := clock_timestamp();
    UPDATE _private_hold h SET state = 'rolled_back', cause = 'cancelled', settled_at = moment, settled_by = me.subject
    WHERE h.root = me.root AND h.reservation = id AND h.state = 'held' RETURNING h.* INTO hold;
    UPDATE _private_balance b SET held = held - hold.amount
    WHERE (b.root, b.subject, b.resource, b.period_start) = (me.root, me.subject, hold.resource, hold.period_start);
    PERFORM public.floor_post(me, moment, 'rollback', id, -hold.amount);
    RETURN hold.amount;
END $$;

CREATE FUNCTION public.floor_post(me earmark._private_subject, moment timestamptz, kind text, id uuid, held bigint)
RETURNS void LANGUAGE plpgsql SET search_path = earmark, pg_temp AS $$
DECLARE
    hash bytea := sha256(me.head || convert_to(jsonb_build_array(me.root, me.subject, me.entries + 1,
        (extract(epoch FROM moment) * 1000000)::bigint, kind, 'images', NULL, id, '1', 0, held, NULL, me.subject, NULL)::text, 'UTF8'));
BEGIN
    INSERT INTO _private_journal (root, subject, seq, at, kind, resource, period_start, reservation, item, committed, held, actor, hash)
    VALUES (me.root, me.subject, me.entries + 1, moment, kind, 'images', '-infinity', id, '1', 0, held, me.subject, hash);
    UPDATE _private_subject s SET entries = me.entries + 1, head = hash WHERE s.root = me.root AND s.subject = me.subject;
END $$;
