CREATE OR REPLACE FUNCTION earmark._private_recount_entries(chosen text, why text, who text)
RETURNS TABLE (root text, resource text, period_start timestamptz, seq bigint, story text)
LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    book _private_subject;
    last _private_journal;
BEGIN
    SELECT * INTO book FROM _private_subject s WHERE s.subject = chosen;
    SELECT * INTO last FROM _private_journal j WHERE (j.root, j.subject) = (book.root, chosen) ORDER BY j.seq DESC LIMIT 1;
    IF last.seq > book.entries THEN
        root := book.root;
        resource := last.resource;
        period_start := last.period_start;
        seq := last.seq + 1;
        story := format('%s: the subject''s entries counted %s, and went to %s', why, book.entries, last.seq);
        UPDATE _private_subject s SET entries = last.seq WHERE (s.root, s.subject) = (book.root, chosen);
        PERFORM _private_post(ARRAY[ROW(root, chosen, 'adjust', resource, period_start, NULL, NULL, 0, 0, NULL, who, story)::_private_entry],
            _private_now());
        RETURN NEXT;
    END IF;
END $$;
COMMENT ON FUNCTION earmark._private_recount_entries IS
'Lets a subject''s journal go on behind its last entry, where his own count of them is lower and would give numbers twice; an adjustment of nothing says so.
His head stays: where it is not the hash of that entry, the chain is broken there, and stays so. The locks are held by the caller.';
