CREATE OR REPLACE FUNCTION earmark._private_newest_change(root text, subject text)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT greatest(s.changes, (
            SELECT i.change FROM _private_image i WHERE (i.root, i.subject) = (s.root, s.subject) ORDER BY i.change DESC LIMIT 1))
        FROM _private_subject s WHERE (s.root, s.subject) = (_private_newest_change.root, _private_newest_change.subject)
    );
END $$;
COMMENT ON FUNCTION earmark._private_newest_change IS
    'Number of the latest change of a subject''s images, plan and quotas. Whoever makes the next one holds the tree''s lock.';
