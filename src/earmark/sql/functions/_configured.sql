CREATE OR REPLACE FUNCTION earmark._private_configured(subject text, max_changes int)
RETURNS SETOF earmark._private_configuration LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    most int := greatest(least(max_changes, 1000), 0);
BEGIN
    RETURN QUERY
    SELECT DISTINCT c.*
    FROM _private_subject s
    JOIN _private_subject h ON h.root = s.root AND h.subject = ANY (s.ancestors)
    CROSS JOIN LATERAL (
        (SELECT o.* FROM _private_configuration o WHERE o.subject = h.subject ORDER BY o.number DESC LIMIT most)
        UNION ALL
        (SELECT o.* FROM _private_configuration o WHERE o.plan = h.plan ORDER BY o.number DESC LIMIT most)
    ) c
    WHERE s.subject = _private_configured.subject
    ORDER BY c.number DESC LIMIT most;
END $$;
COMMENT ON FUNCTION earmark._private_configured IS
    'What was configured of the subject, of all above him, and of the plans they have now, newest first.';
