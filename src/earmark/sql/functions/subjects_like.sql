CREATE OR REPLACE FUNCTION earmark.subjects_like(part text, max_subjects int DEFAULT 20)
RETURNS TABLE (subject text, plan text, parent text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN QUERY
    SELECT s.subject, s.plan, s.ancestors[2]
    FROM _private_subject s
    WHERE strpos(lower(s.subject), lower(subjects_like.part)) > 0
    ORDER BY s.subject <> subjects_like.part, strpos(lower(s.subject), lower(subjects_like.part)) > 1, s.subject
    LIMIT greatest(least(subjects_like.max_subjects, 1000), 0);
END $$;
COMMENT ON FUNCTION earmark.subjects_like IS
'Subjects whose name contains the text, in whatever case: the one of that name first, then those that begin with it. Reads all names. Errors: QT005.';
