CREATE OR REPLACE FUNCTION earmark._private_figures(chosen text)
RETURNS SETOF earmark._private_figure LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    tree text := (SELECT s.root FROM _private_subject s WHERE s.subject = chosen);
BEGIN
    RETURN QUERY
    SELECT f.root, f.subject, f.resource, f.period_start, sum(f.committed)::bigint, sum(f.held)::bigint,
        sum(f.holds_committed)::bigint, sum(f.holds_held)::bigint, sum(f.journal_committed)::bigint, sum(f.journal_held)::bigint
    FROM (
        SELECT b.root, b.subject, b.resource, b.period_start, b.committed, b.held,
            0 AS holds_committed, 0 AS holds_held, 0 AS journal_committed, 0 AS journal_held
        FROM _private_balance b
        WHERE chosen IS NULL OR (b.root = tree AND b.subject = chosen)
        UNION ALL
        SELECT h.root, h.subject, h.resource, h.period_start, 0, 0,
            sum(CASE h.state WHEN 'committed' THEN h.committed ELSE 0 END), sum(CASE h.state WHEN 'held' THEN h.amount ELSE 0 END), 0, 0
        FROM _private_hold h
        WHERE chosen IS NULL OR (h.root = tree AND h.subject = chosen)
        GROUP BY h.root, h.subject, h.resource, h.period_start
        UNION ALL
        SELECT j.root, j.subject, j.resource, j.period_start, 0, 0,
            sum(CASE j.kind WHEN 'adjust' THEN j.committed ELSE 0 END), 0, sum(j.committed), sum(j.held)
        FROM _private_journal j
        WHERE chosen IS NULL OR (j.root = tree AND j.subject = chosen)
        GROUP BY j.root, j.subject, j.resource, j.period_start
        UNION ALL
        SELECT c.root, c.subject, c.resource, c.period_start, 0, 0, c.holds_committed, 0, c.journal_committed, c.journal_held
        FROM _private_carried c
        WHERE chosen IS NULL OR (c.root = tree AND c.subject = chosen)
    ) f
    GROUP BY f.root, f.subject, f.resource, f.period_start;
END $$;
COMMENT ON FUNCTION earmark._private_figures IS
'Per subject, resource and period, what the balance says, what the holds say, and what the journal says; of one subject, or, for NULL, of all.
Adjustments stand in the journal alone and count on the side of the holds; what was pruned is carried on both.';
