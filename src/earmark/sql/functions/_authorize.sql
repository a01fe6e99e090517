CREATE OR REPLACE FUNCTION earmark._private_authorize(subject text, cause text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
BEGIN
    IF claims IS NULL OR claims->>'role' = 'service_role' THEN
        RETURN;
    END IF;
    IF subject IS NULL OR subject IS DISTINCT FROM claims->>'sub' THEN
        PERFORM _private_raise('QT005', 'You can only name yourself.', '{}');
    END IF;
    IF cause NOT IN ('cancelled', 'upload_failed') THEN
        PERFORM _private_raise('QT005', 'You can only state the causes cancelled and upload_failed.',
            jsonb_build_object('cause', cause));
    END IF;
END $$;
COMMENT ON FUNCTION earmark._private_authorize IS
    'With JWT claims present, as PostgREST sets them: refuses (QT005) a caller who is not service_role and names somebody else, or nobody.';
