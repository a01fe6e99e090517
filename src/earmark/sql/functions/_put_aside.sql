CREATE OR REPLACE FUNCTION earmark._private_put_aside(overdue jsonb, error text, moment timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    retry timestamptz;
    owner text;
BEGIN
    INSERT INTO _private_set_aside AS a (root, reservation, item, error, times, at, retry_at, expires_at)
    SELECT t.root, t.reservation, t.item, _private_put_aside.error, 1, moment, moment + interval '1 minute', min(t.expires_at)
    FROM _private_settle_targets(jsonb_build_array(overdue)) t
    WHERE t.state = 'held'
    GROUP BY t.root, t.reservation, t.item
    ON CONFLICT (root, reservation, item) DO UPDATE
    SET error = excluded.error, times = a.times + 1, at = moment,
        retry_at = moment + least(interval '1 minute' * 2.0 ^ least(a.times, 10), interval '6 hours')
    RETURNING a.retry_at INTO retry;

    UPDATE _private_hold h
    SET expires_at = retry
    FROM _private_settle_targets(jsonb_build_array(overdue)) t
    WHERE (h.root, h.reservation, h.item, h.resource, h.subject) = (t.root, t.reservation, t.item, t.resource, t.subject)
        AND t.state = 'held';

    SELECT p.subject INTO owner FROM _private_reservation p WHERE p.reservation = (overdue->>'reservation')::uuid;
    RAISE WARNING 'overdue item % of reservation % of % is set aside until %: %',
        overdue->'items'->>0, overdue->>'reservation', owner, retry, error;
END $$;
COMMENT ON FUNCTION earmark._private_put_aside IS
'Records that an overdue item could not be rolled back, and moves its deadline to when it is tried again: after a minute, then twice as long each time, at most 6 hours. The locks are held by the caller.';
