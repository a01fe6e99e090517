CREATE OR REPLACE FUNCTION earmark.journal_position()
RETURNS text LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN jsonb_build_array(pg_snapshot_xmin(pg_current_snapshot()), '', '', 0)::text;
END $$;
COMMENT ON FUNCTION earmark.journal_position IS
'The cursor for journal_since that is behind nothing but what it has not given yet: to follow the journal from now on. Errors: QT005.';
