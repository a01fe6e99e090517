CREATE OR REPLACE FUNCTION earmark._private_check_cause(cause text)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    IF coalesce(cause, '') NOT IN ('upload_failed', 'processing_failed', 'cancelled', 'validation_failed', 'expired', 'admin') THEN
        PERFORM _private_raise('QT001',
            'cause must be one of upload_failed, processing_failed, cancelled, validation_failed, expired, admin.',
            '{"field": "cause"}');
    END IF;
END $$;
COMMENT ON FUNCTION earmark._private_check_cause IS 'Refuses (QT001) what is not a cause of a rollback.';
