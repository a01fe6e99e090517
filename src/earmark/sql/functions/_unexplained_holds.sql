CREATE OR REPLACE FUNCTION earmark._private_unexplained_holds(chosen text)
RETURNS TABLE (root text, subject text, resource text, period_start timestamptz, reservation uuid, item text, state text, kind text, seq bigint)
LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    tree text := (SELECT s.root FROM _private_subject s WHERE s.subject = chosen);
BEGIN
    RETURN QUERY
    WITH last_words AS (
        SELECT DISTINCT ON (j.root, j.reservation, j.item, j.resource, j.subject) j.*
        FROM _private_journal j
        WHERE j.reservation IS NOT NULL AND (chosen IS NULL OR (j.root = tree AND j.subject = chosen))
        ORDER BY j.root, j.reservation, j.item, j.resource, j.subject, j.seq DESC
    )
    SELECT h.root, h.subject, h.resource, h.period_start, h.reservation, h.item, h.state, w.kind, w.seq
    FROM _private_hold h
    JOIN _private_subject s ON (s.root, s.subject) = (h.root, h.subject)
    LEFT JOIN _private_reservation p ON (p.root, p.reservation) = (h.root, h.reservation)
    LEFT JOIN last_words w
        ON (w.root, w.reservation, w.item, w.resource, w.subject) = (h.root, h.reservation, h.item, h.resource, h.subject)
    WHERE (chosen IS NULL OR (h.root = tree AND h.subject = chosen))
        AND (p.reservation IS NULL OR CASE w.kind
            WHEN 'reserve' THEN h.state <> 'held'
            WHEN 'extend' THEN h.state <> 'held'
            WHEN 'commit' THEN h.state <> 'committed'
            WHEN 'rollback' THEN h.state <> 'rolled_back'
            WHEN 'refund' THEN h.state <> 'refunded'
            WHEN 'adjust' THEN false
            ELSE s.pruned_seq = 0 END);
END $$;
COMMENT ON FUNCTION earmark._private_unexplained_holds IS
'Holds whose state is not what the journal last said of them; an adjustment that names the hold explains any.
And holds whose reservation is missing, without which nothing can settle them.
A hold without an entry is one where nothing of the subject''s journal was pruned. Of one subject, or, for NULL, of all.';
