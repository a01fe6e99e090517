CREATE OR REPLACE FUNCTION earmark._private_authorize(subject text, cause text DEFAULT NULL, actor text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    who record := _private_caller();
BEGIN
    IF who.service THEN
        RETURN;
    END IF;
    IF subject IS NULL OR subject IS DISTINCT FROM who.subject THEN
        PERFORM _private_raise('QT005', 'You can only name yourself.', '{}');
    END IF;
    IF cause NOT IN ('cancelled', 'upload_failed') THEN
        PERFORM _private_raise('QT005', 'You can only state the causes cancelled and upload_failed.',
            jsonb_build_object('cause', cause));
    END IF;
    IF actor <> subject THEN
        PERFORM _private_raise('QT005', 'You can only act as yourself.', jsonb_build_object('actor', actor));
    END IF;
END $$;
COMMENT ON FUNCTION earmark._private_authorize IS
    'Refuses (QT005) a caller who is not a service and names somebody else, or nobody, states a cause that is not his to state, or acts in another''s name.';
