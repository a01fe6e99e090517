CREATE OR REPLACE FUNCTION earmark.prune_journal(before timestamptz DEFAULT NULL, max_entries int DEFAULT 10000, after text DEFAULT NULL)
RETURNS TABLE (entries bigint, next_after text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := coalesce(prune_journal.before, _private_retention('journal'));
    most bigint := greatest(max_entries, 1);
    one record;
BEGIN
    PERFORM _private_authorize(NULL);
    entries := 0;
    next_after := coalesce(prune_journal.after, '');
    FOR one IN
        SELECT s.root, s.subject FROM _private_subject s
        WHERE s.subject > next_after AND moment IS NOT NULL
        ORDER BY s.subject
        LIMIT 1000
    LOOP
        entries := entries + _private_prune_entries(one.root, one.subject, moment, most - entries);
        IF entries >= most THEN
            RETURN NEXT;
            RETURN;
        END IF;
        next_after := one.subject;
    END LOOP;
    IF NOT EXISTS (SELECT FROM _private_subject s WHERE s.subject > next_after AND moment IS NOT NULL) THEN
        next_after := NULL;
    END IF;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION earmark.prune_journal IS
'Removes journal entries older than a moment (by default: that of the retention, which is none until set), from the front of each subject''s chain,
whose rest stays verifiable; what they summed to stays counted. Entries that do not follow from those before them stay, as evidence.
At most max_entries of 1000 subjects, in order of their names, passing over trees locked by others; next_after is where the next call goes on,
NULL when none is left. Errors: QT005. Locks the trees; safe to repeat.';
