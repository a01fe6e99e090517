CREATE OR REPLACE FUNCTION earmark._private_broken_entries(chosen text)
RETURNS TABLE (root text, subject text, seq bigint)
LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    tree text := (SELECT s.root FROM _private_subject s WHERE s.subject = chosen);
BEGIN
    RETURN QUERY
    WITH entries AS (
        SELECT j.root, j.subject, j.seq, j.hash, false AS is_end, _private_entry_content(j.root, j.subject, j.seq, j.at, j.kind, j.resource,
                j.period_start, j.reservation, j.item, j.committed, j.held, j.cause, j.actor, j.reason) AS content,
            coalesce(s.entries, 0) AS entries, coalesce(s.pruned_seq, 0) AS pruned_seq, coalesce(s.pruned_head, '') AS pruned_head
        FROM _private_journal j
        LEFT JOIN _private_subject s USING (root, subject)
        WHERE chosen IS NULL OR (j.root = tree AND j.subject = chosen)
        UNION ALL
        SELECT s.root, s.subject, s.entries + 1, s.head, true, '', s.entries, s.pruned_seq, s.pruned_head
        FROM _private_subject s
        WHERE chosen IS NULL OR (s.root = tree AND s.subject = chosen)
    ), linked AS (
        SELECT e.*, lag(e.seq, 1, e.pruned_seq) OVER chain AS seq_before, lag(e.hash, 1, e.pruned_head) OVER chain AS hash_before
        FROM entries e
        WINDOW chain AS (PARTITION BY e.root, e.subject ORDER BY e.seq, e.is_end)
    )
    SELECT DISTINCT l.root, l.subject, CASE
        WHEN l.is_end THEN least(l.seq_before + 1, l.entries)
        WHEN l.seq > l.entries THEN l.seq
        ELSE least(l.seq_before + 1, l.seq) END
    FROM linked l
    WHERE l.seq <> l.seq_before + 1
        OR (l.seq > l.entries AND NOT l.is_end)
        OR l.hash <> CASE WHEN l.is_end THEN l.hash_before ELSE sha256(l.hash_before || l.content) END;
END $$;
COMMENT ON FUNCTION earmark._private_broken_entries IS
'The journal entries that do not follow from the one before: edited, inserted, or, where the first one missing is named, removed.
The chain begins at what was pruned and must end at the subject''s head. Of one subject, or, for NULL, of all.';
