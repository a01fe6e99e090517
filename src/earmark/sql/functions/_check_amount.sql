CREATE OR REPLACE FUNCTION earmark._private_check_amount(amount jsonb, resource text, minimum bigint DEFAULT 1)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    IF jsonb_typeof(amount) = 'number' AND amount::numeric = trunc(amount::numeric)
        AND amount::numeric BETWEEN minimum AND 9223372036854775807 THEN
        RETURN amount::numeric;
    END IF;
    PERFORM _private_raise('QT001',
        format('The amount of %s must be a whole number from %s to 9223372036854775807, not %s.', resource, minimum, amount),
        jsonb_build_object('resource', resource, 'amount', amount));
END $$;
COMMENT ON FUNCTION earmark._private_check_amount IS 'A JSON value as an amount, or QT001.';
