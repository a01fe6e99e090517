CREATE OR REPLACE FUNCTION earmark._private_write_reserve(
    asked earmark._private_request[], lines earmark._private_line[], moment timestamptz
) RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    INSERT INTO _private_reservation (root, reservation, subject, key, request, outcome, detail, expires_at, created_at)
    SELECT s.root, a.reservation, a.subject, a.key, a.request, a.outcome, a.detail, a.expires_at, moment
    FROM unnest(asked) a
    JOIN _private_subject s USING (subject)
    WHERE NOT a.replayed AND a.first = a.ordinal AND a.reservation IS NOT NULL;

    INSERT INTO _private_balance AS b (root, subject, resource, period_start, period_end, ceiling)
    SELECT DISTINCT l.root, l.subject, l.resource, l.period_start, l.period_end, l.quota
    FROM unnest(lines) l
    JOIN unnest(asked) a USING (ordinal)
    WHERE a.outcome = 'granted'
    ON CONFLICT (root, subject, resource, period_start) DO UPDATE SET ceiling = excluded.ceiling
    WHERE b.ceiling IS DISTINCT FROM excluded.ceiling;

    INSERT INTO _private_hold (root, reservation, item, resource, subject, period_start, amount, expires_at)
    SELECT l.root, a.reservation, l.item, l.resource, l.subject, l.period_start, l.amount, a.expires_at
    FROM unnest(lines) l
    JOIN unnest(asked) a USING (ordinal)
    WHERE a.outcome = 'granted';

    PERFORM _private_post(ARRAY(
        SELECT ROW(l.root, l.subject, 'reserve', l.resource, l.period_start, a.reservation, l.item, 0, l.amount,
            NULL, a.actor, NULL)::_private_entry
        FROM unnest(lines) l
        JOIN unnest(asked) a USING (ordinal)
        WHERE a.outcome = 'granted'
        ORDER BY l.ordinal, l.item, l.resource
    ), moment);
END $$;
COMMENT ON FUNCTION earmark._private_write_reserve IS
    'Writes what was decided: the outcomes under their keys, the holds, and the journal. Replayed requests have no lines.';
