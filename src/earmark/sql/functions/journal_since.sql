CREATE OR REPLACE FUNCTION earmark.journal_since(cursor text DEFAULT NULL, max_entries int DEFAULT 1000)
RETURNS TABLE (next_cursor text, subject text, seq bigint, at timestamptz, kind text, resource text, period_start timestamptz, reservation uuid,
    item text, committed bigint, held bigint, cause text, actor text, reason text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    behind _private_position;
BEGIN
    PERFORM _private_authorize(NULL);
    behind := _private_position_at(journal_since.cursor);
    RETURN QUERY
    SELECT jsonb_build_array(j.transaction, j.root, j.subject, j.seq)::text, j.subject, j.seq, j.at, j.kind, j.resource,
        nullif(j.period_start, '-infinity'), j.reservation, j.item, j.committed, j.held, j.cause, j.actor, j.reason
    FROM _private_journal j
    WHERE j.transaction >= behind.transaction AND j.transaction < pg_snapshot_xmin(pg_current_snapshot())
        AND (j.transaction, j.root, j.subject, j.seq) > (behind.transaction, behind.root, behind.subject, behind.seq)
    ORDER BY j.transaction, j.root, j.subject, j.seq
    LIMIT greatest(least(journal_since.max_entries, 10000), 0);
END $$;
COMMENT ON FUNCTION earmark.journal_since IS
'Everybody''s journal as followers read it: every committed entry once, none missed, each subject''s in the order of its seq; at most 10000 a call.
cursor is the next_cursor of the last entry taken, an opaque text, or NULL for the beginning of what is kept. Entries appear when no transaction
that began before them is still running, anywhere on the server. A follower further behind than the journal''s retention sees a gap in a subject''s seq.
Errors: QT001 (not a cursor), QT005.';
