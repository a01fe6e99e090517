CREATE OR REPLACE FUNCTION earmark._private_check_adjust(requests jsonb)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    suspect record;
BEGIN
    IF jsonb_typeof(requests) IS DISTINCT FROM 'array' THEN
        PERFORM _private_raise('QT001', 'requests must be a JSON array of objects.');
    END IF;
    FOR suspect IN
        SELECT r.value AS request, CASE
            WHEN coalesce(length(r.value->>'subject'), 0) NOT BETWEEN 1 AND 255 THEN 'subject'
            WHEN coalesce(length(r.value->>'resource'), 0) = 0 THEN 'resource'
            WHEN length(r.value->>'key') NOT BETWEEN 1 AND 255 OR octet_length(r.value->>'key') > 800 THEN 'key'
            WHEN r.value->'amount' = '0' THEN 'amount'
            END AS field
        FROM jsonb_array_elements(requests) r
    LOOP
        IF suspect.field IS NOT NULL THEN
            PERFORM _private_raise('QT001', CASE suspect.field
                WHEN 'subject' THEN 'subject must be a text of 1 to 255 characters.'
                WHEN 'resource' THEN 'resource must be named.'
                WHEN 'key' THEN 'key must be a text of 1 to 255 characters, at most 800 bytes, or absent.'
                ELSE 'An adjustment by 0 would change nothing.'
            END, jsonb_build_object('field', suspect.field));
        END IF;
        PERFORM _private_check_words(suspect.request->>'reason', suspect.request->>'actor', needed => true);
        PERFORM _private_check_amount(suspect.request->'amount', suspect.request->>'resource', -9223372036854775807);
    END LOOP;
END $$;
COMMENT ON FUNCTION earmark._private_check_adjust IS 'Refuses (QT001) an adjustment that no state of the ledger could grant, or that does not say by whom and why.';
