CREATE OR REPLACE FUNCTION earmark.verify(subject text DEFAULT NULL)
RETURNS TABLE (subject text, resource text, period_start timestamptz, figure text, balance bigint, holds bigint, journal bigint, seq bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
    SELECT _private_authorize(verify.subject);
    SELECT f.subject, f.resource, nullif(f.period_start, '-infinity'), c.figure, c.balance, c.holds, c.journal, NULL::bigint
    FROM _private_figures(verify.subject) f
    CROSS JOIN LATERAL (VALUES
        ('committed', f.committed, f.holds_committed, f.journal_committed),
        ('held', f.held, f.holds_held, f.journal_held)) c (figure, balance, holds, journal)
    WHERE c.balance <> c.holds OR c.balance <> c.journal
    UNION ALL
    SELECT h.subject, h.resource, nullif(h.period_start, '-infinity'), h.figure, 0, 1, 0, h.seq
    FROM _private_unexplained_holds(verify.subject) h
    UNION ALL
    SELECT b.subject, '', NULL, 'chain', 0, 0, 0, b.seq
    FROM _private_broken_entries(verify.subject) b
    ORDER BY 1, 2, 3, 4, 8
$$;
COMMENT ON FUNCTION earmark.verify IS
'Compares, in one snapshot, the balances with the holds and with the journal, and follows the journal''s hash chain; no row means that all is well.
figure: committed or held: the balance, what the holds say (adjustments and what was pruned among them), what the journal sums to.
state: a hold that is not as the journal last said of it, in entry seq (its state, amount and period; when, by whom and why it was settled), or that is missing,
or whose reservation is missing or was not granted. owner: a hold at the level of another than its reservation''s subject. chain: entry seq was edited, removed or inserted.
Of one subject, or of all. Errors: QT005.';
