CREATE OR REPLACE FUNCTION earmark._private_unexplained_holds(chosen text)
RETURNS TABLE (root text, subject text, resource text, period_start timestamptz, reservation uuid, item text, figure text, state text, kind text, seq bigint)
LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    tree text := (SELECT s.root FROM _private_subject s WHERE s.subject = chosen);
BEGIN
    RETURN QUERY
    WITH last_words AS (
        -- `taken`: the amount, by the last entry that took or settled it; NULL where an adjustment has explained another one since.
        SELECT DISTINCT ON (j.root, j.reservation, j.item, j.resource, j.subject) j.*, nullif(abs(first_value(j.held) OVER (
            PARTITION BY j.root, j.reservation, j.item, j.resource, j.subject ORDER BY j.held = 0 AND j.kind <> 'adjust', j.seq DESC)), 0) AS taken
        FROM _private_journal j
        WHERE j.reservation IS NOT NULL AND (chosen IS NULL OR (j.root = tree AND j.subject = chosen))
        ORDER BY j.root, j.reservation, j.item, j.resource, j.subject, j.seq DESC
    ), holds AS (
        SELECT * FROM _private_hold h WHERE chosen IS NULL OR (h.root = tree AND h.subject = chosen)
    ), told AS (
        SELECT coalesce(h.root, w.root) AS root, coalesce(h.subject, w.subject) AS subject, coalesce(h.resource, w.resource) AS resource,
            coalesce(h.period_start, w.period_start) AS period_start, coalesce(h.reservation, w.reservation) AS reservation,
            coalesce(h.item, w.item) AS item, h.state, w.kind, w.seq, h.level, CASE
                WHEN w.kind = 'adjust' THEN false
                WHEN h.state IS NULL THEN true
                WHEN w.kind IS NULL THEN NULL
                WHEN h.amount <> w.taken OR h.period_start <> w.period_start THEN true
                WHEN w.kind IN ('reserve', 'extend') THEN h.state <> 'held'
                WHEN (h.settled_at, h.settled_by, h.cause) IS DISTINCT FROM (w.at, w.actor, w.cause) THEN true
                WHEN w.kind = 'commit' THEN (h.state, h.committed) <> ('committed', w.committed)
                WHEN w.kind = 'rollback' THEN h.state <> 'rolled_back'
                WHEN w.kind = 'refund' THEN (h.state, h.committed) <> ('refunded', -w.committed)
                END AS otherwise
        FROM holds h
        FULL JOIN last_words w
            ON (w.root, w.reservation, w.item, w.resource, w.subject) = (h.root, h.reservation, h.item, h.resource, h.subject)
    )
    SELECT t.root, t.subject, t.resource, t.period_start, t.reservation, t.item, f.figure, t.state, t.kind, t.seq
    FROM told t
    JOIN _private_subject s ON (s.root, s.subject) = (t.root, t.subject)
    LEFT JOIN _private_reservation p ON (p.root, p.reservation) = (t.root, t.reservation)
    CROSS JOIN LATERAL (SELECT CASE
        WHEN t.state IS NULL THEN CASE WHEN t.otherwise AND p.reservation IS NOT NULL THEN 'state' END
        WHEN p.outcome IS DISTINCT FROM 'granted' OR coalesce(t.otherwise, s.pruned_seq = 0) THEN 'state'
        WHEN (t.level = 0) <> (t.subject = p.subject) THEN 'owner' END) f (figure)
    WHERE f.figure IS NOT NULL;
END $$;
COMMENT ON FUNCTION earmark._private_unexplained_holds IS
'Holds that are not as the journal last said of them: their state, amount and period, and when, by whom and why they were settled; also those that are missing.
An adjustment that names the hold explains any. And holds whose reservation is missing or was not granted, without which nothing can settle them.
figure owner: a hold of the reservation''s subject that is not at his own level, or of another that is. A hold without an entry is one where nothing of
the subject''s journal was pruned. Of one subject, or, for NULL, of all.';
