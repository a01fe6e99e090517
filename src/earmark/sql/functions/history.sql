CREATE OR REPLACE FUNCTION earmark.history(subject text, before_seq bigint DEFAULT NULL, max_entries int DEFAULT 50)
RETURNS TABLE (seq bigint, at timestamptz, kind text, resource text, period_start timestamptz, reservation uuid, item text,
    committed bigint, held bigint, cause text, actor text, reason text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp SET enable_sort = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_authorize(history.subject);
    RETURN QUERY
    SELECT j.seq, j.at, j.kind, j.resource, nullif(j.period_start, '-infinity'), j.reservation, j.item, j.committed, j.held,
        j.cause, j.actor, j.reason
    FROM _private_journal j
    WHERE j.root = (SELECT s.root FROM _private_subject s WHERE s.subject = history.subject) AND j.subject = history.subject
        AND j.seq < coalesce(history.before_seq, 9223372036854775807)
    ORDER BY j.seq DESC
    LIMIT greatest(least(history.max_entries, 1000), 0);
END $$;
COMMENT ON FUNCTION earmark.history IS
'The subject''s journal, newest first, at most 1000 entries a call; the next page starts before the last seq. committed and held are what the entry added. Errors: QT005.';
