CREATE OR REPLACE FUNCTION earmark._private_check_settle(requests jsonb, needs_cause boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    request jsonb;
BEGIN
    IF jsonb_typeof(requests) IS DISTINCT FROM 'array' THEN
        PERFORM _private_raise('QT001', 'requests must be a JSON array of objects.');
    END IF;
    FOR request IN SELECT * FROM jsonb_array_elements(requests) LOOP
        IF coalesce(request->>'reservation', '') !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
            PERFORM _private_raise('QT001', 'reservation must be a UUID.', '{"field": "reservation"}');
        END IF;
        IF coalesce(jsonb_typeof(request->'items'), 'null') NOT IN ('null', 'array', 'object') THEN
            PERFORM _private_raise('QT001', 'items must be an array of names, or an object of names and amounts.', '{"field": "items"}');
        END IF;
        IF needs_cause AND coalesce(request->>'cause', '') NOT IN
            ('upload_failed', 'processing_failed', 'cancelled', 'validation_failed', 'expired', 'admin') THEN
            PERFORM _private_raise('QT001',
                'cause must be one of upload_failed, processing_failed, cancelled, validation_failed, expired, admin.',
                '{"field": "cause"}');
        END IF;
        PERFORM _private_check_amount(a.value, a.key, 0) FROM jsonb_each(request->'amounts') a;
        IF jsonb_typeof(request->'items') = 'object' THEN
            PERFORM _private_check_amount(a.value, a.key, 0)
            FROM jsonb_each(request->'items') i CROSS JOIN LATERAL jsonb_each(i.value) a;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION earmark._private_check_settle IS 'Refuses (QT001) malformed requests to settle.';
