CREATE OR REPLACE FUNCTION earmark._private_check_actual(amounts jsonb, field text)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    IF amounts IS NULL THEN
        RETURN;
    END IF;
    IF jsonb_typeof(amounts) <> 'object' THEN
        PERFORM _private_raise('QT001', format('%s must name resources and their amounts.', field), jsonb_build_object('field', field));
    END IF;
    PERFORM _private_check_amount(a.value, a.key, 0) FROM jsonb_each(amounts) a;
END $$;
COMMENT ON FUNCTION earmark._private_check_actual IS 'Refuses (QT001) what does not say how much of each resource was really used.';
