CREATE OR REPLACE FUNCTION earmark.verify(subject text DEFAULT NULL)
RETURNS TABLE (subject text, resource text, period_start timestamptz, figure text, balance bigint, holds bigint, journal bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
    SELECT _private_authorize(verify.subject);
    WITH booked AS (
        SELECT b.root, b.subject, b.resource, b.period_start, b.committed, b.held FROM _private_balance b
        WHERE b.subject = coalesce(verify.subject, b.subject)
    ), written AS (
        SELECT j.root, j.subject, j.resource, j.period_start, sum(j.committed)::bigint AS committed, sum(j.held)::bigint AS held,
            coalesce(sum(j.committed) FILTER (WHERE j.kind = 'adjust'), 0)::bigint AS adjusted
        FROM _private_journal j WHERE j.subject = coalesce(verify.subject, j.subject) GROUP BY 1, 2, 3, 4
    ), standing AS (
        SELECT h.root, h.subject, h.resource, h.period_start,
            coalesce(sum(h.committed) FILTER (WHERE h.state = 'committed'), 0)::bigint AS committed,
            coalesce(sum(h.amount) FILTER (WHERE h.state = 'held'), 0)::bigint AS held
        FROM _private_hold h WHERE h.subject = coalesce(verify.subject, h.subject) GROUP BY 1, 2, 3, 4
    ), figures AS (
        SELECT root, subject, resource, period_start, f.figure, coalesce(f.balance, 0) AS balance, coalesce(f.holds, 0) AS holds,
            coalesce(f.journal, 0) AS journal
        FROM booked b
        FULL JOIN written w USING (root, subject, resource, period_start)
        FULL JOIN standing s USING (root, subject, resource, period_start)
        CROSS JOIN LATERAL (VALUES
            ('committed', b.committed, coalesce(s.committed, 0) + coalesce(w.adjusted, 0), w.committed),
            ('held', b.held, s.held, w.held)) f (figure, balance, holds, journal)
    )
    SELECT f.subject, f.resource, nullif(f.period_start, '-infinity'), f.figure, f.balance, f.holds, f.journal
    FROM figures f
    WHERE f.balance <> f.holds OR f.balance <> f.journal
    UNION ALL
    SELECT s.subject, '', NULL, 'entries', s.entries, count(j.seq), coalesce(max(j.seq), 0)
    FROM _private_subject s
    LEFT JOIN _private_journal j USING (root, subject)
    WHERE s.subject = coalesce(verify.subject, s.subject)
    GROUP BY s.root, s.subject, s.entries
    HAVING s.entries <> count(j.seq) OR s.entries <> coalesce(max(j.seq), 0)
    ORDER BY 1, 2, 3, 4
$$;
COMMENT ON FUNCTION earmark.verify IS
'Compares, in one snapshot, the balances with the holds and with the journal; no row means that all agree. Adjustments stand in the journal alone and count on the side of the holds. Errors: QT005.';
