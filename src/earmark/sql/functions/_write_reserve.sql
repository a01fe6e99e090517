CREATE OR REPLACE FUNCTION earmark._private_write_reserve(
    asked earmark._private_request[], lines earmark._private_line[], moment timestamptz
) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp SET enable_hashjoin = on AS $$
DECLARE
    entries _private_entry[];
    all_written boolean;
BEGIN
    WITH decided AS (
        SELECT a.* FROM unnest(asked) a WHERE NOT a.replayed
    ), reserved AS (
        INSERT INTO _private_reservation (root, reservation, subject, key, request, outcome, detail, expires_at, created_at)
        SELECT d.root, d.reservation, d.subject, d.key, CASE WHEN d.key IS NOT NULL THEN d.request END, d.outcome, d.detail,
            d.expires_at, moment
        FROM decided d
        WHERE d.outcome = 'granted' OR d.key IS NOT NULL
        ON CONFLICT (root, subject, key) WHERE key IS NOT NULL DO NOTHING
        RETURNING reservation
    ), taken AS (
        SELECT l.*, d.reservation, d.expires_at, d.actor, coalesce(d.followed, false) AS followed
        FROM unnest(lines) l
        JOIN decided d USING (ordinal)
        WHERE d.outcome = 'granted'
    ), opened AS (
        INSERT INTO _private_balance AS b (root, subject, resource, period_start, period_end, ceiling)
        SELECT DISTINCT t.root, t.subject, t.resource, t.period_start, t.period_end, t.quota FROM taken t
        ON CONFLICT (root, subject, resource, period_start) DO UPDATE SET ceiling = excluded.ceiling, period_end = excluded.period_end
        WHERE b.ceiling IS DISTINCT FROM excluded.ceiling OR b.period_end <> excluded.period_end
    ), held AS (
        INSERT INTO _private_hold (root, reservation, item, resource, subject, level, followed, period_start, amount, expires_at)
        SELECT t.root, t.reservation, t.item, t.resource, t.subject, t.level, t.followed, t.period_start, t.amount, t.expires_at
        FROM taken t
    )
    SELECT array_agg(ROW(t.root, t.subject, 'reserve', t.resource, t.period_start, t.reservation, t.item, 0, t.amount,
        NULL, t.actor, NULL)::_private_entry),
        (SELECT count(*) FROM reserved) = (SELECT count(*) FROM decided d WHERE d.outcome = 'granted' OR d.key IS NOT NULL)
    INTO entries, all_written
    FROM taken t;
    IF NOT all_written THEN
        RAISE EXCEPTION 'a key was answered by another transaction, whom the lock did not stop' USING ERRCODE = 'unique_violation';
    END IF;
    IF entries IS NOT NULL THEN
        PERFORM _private_post(entries, moment);
    END IF;
END $$;
COMMENT ON FUNCTION earmark._private_write_reserve IS
    'Writes what was decided: the outcomes under their keys, the holds, and the journal. Replayed requests have no lines.
A key that was answered since the snapshot of a REPEATABLE READ or SERIALIZABLE transaction is the conflict that PostgreSQL has such a one tried again for (40001).';
