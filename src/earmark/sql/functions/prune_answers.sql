CREATE OR REPLACE FUNCTION earmark.prune_answers(older_than interval, max_answers int DEFAULT 1000)
RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
DECLARE
    removed bigint;
BEGIN
    PERFORM _private_authorize(NULL);
    DELETE FROM _private_answer a
    USING (
        SELECT o.root, o.subject, o.key FROM _private_answer o
        WHERE o.created_at < _private_now() - older_than
        ORDER BY o.created_at
        LIMIT greatest(max_answers, 1)
        FOR UPDATE SKIP LOCKED
    ) o
    WHERE (a.root, a.subject, a.key) = (o.root, o.subject, o.key);
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;
COMMENT ON FUNCTION earmark.prune_answers IS
'Removes answers that are older than this, oldest first, at most max_answers; how many. From then on their keys are new. Errors: QT005 (services only).';
