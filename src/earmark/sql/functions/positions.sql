CREATE OR REPLACE FUNCTION earmark.positions(subjects text[])
RETURNS TABLE (subject text, entries bigint, changes bigint, plan_changes bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN QUERY
    SELECT s.subject, s.entries, _private_newest_change(s.root, s.subject), p.changes
    FROM unnest(positions.subjects) n (subject)
    JOIN _private_subject s ON s.subject = n.subject
    JOIN _private_plan p ON p.plan = s.plan;
END $$;
COMMENT ON FUNCTION earmark.positions IS
'How far the subjects'' books have come: entries of the journal, and changes of images, plan and quotas. Both only grow, in the order of commits,
so whoever sees the same numbers again has missed nothing. plan_changes: of the plan he has, for all who have it. Those never seen are left out. Errors: QT005.';
