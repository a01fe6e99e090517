CREATE OR REPLACE FUNCTION earmark._private_check_words(reason text, actor text, needed boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    IF length(reason) > 500 OR (needed AND coalesce(btrim(reason), '') = '') THEN
        PERFORM _private_raise('QT001',
            format('reason must be a text of %s500 characters.', CASE WHEN needed THEN '1 to ' ELSE 'at most ' END), '{"field": "reason"}');
    ELSIF length(actor) > 255 OR (needed AND coalesce(actor, '') = '') THEN
        PERFORM _private_raise('QT001',
            format('actor must be a text of %s255 characters.', CASE WHEN needed THEN '1 to ' ELSE 'at most ' END), '{"field": "actor"}');
    END IF;
END $$;
COMMENT ON FUNCTION earmark._private_check_words IS
    'Refuses (QT001) what is too long for the journal: why something was done, and who says so; and, where both are needed, that one is missing.';
