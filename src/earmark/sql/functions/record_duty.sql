CREATE OR REPLACE FUNCTION earmark.record_duty(duty text, error text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := _private_now();
BEGIN
    PERFORM _private_authorize(NULL);
    INSERT INTO _private_duty AS d (duty, ran_at, failed_at, error)
    VALUES (record_duty.duty, CASE WHEN record_duty.error IS NULL THEN moment END,
        CASE WHEN record_duty.error IS NOT NULL THEN moment END, record_duty.error)
    ON CONFLICT (duty) DO UPDATE
    SET ran_at = coalesce(excluded.ran_at, d.ran_at), failed_at = coalesce(excluded.failed_at, d.failed_at),
        error = coalesce(excluded.error, d.error);
END $$;
COMMENT ON FUNCTION earmark.record_duty IS 'Notes that a background duty was done just now or, with an error, that it failed. Errors: QT005.';
