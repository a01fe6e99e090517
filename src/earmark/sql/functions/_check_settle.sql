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
        IF coalesce(request->>'late', 'reacquire') NOT IN ('reacquire', 'refuse') THEN
            PERFORM _private_raise('QT001', 'late must be reacquire or refuse.', '{"field": "late"}');
        END IF;
        IF needs_cause THEN
            PERFORM _private_check_cause(request->>'cause');
            PERFORM _private_authorize(request->>'subject', request->>'cause');
        END IF;
        IF request ? 'amounts' THEN
            PERFORM _private_check_actual(request->'amounts', 'amounts');
            PERFORM _private_raise('QT001', 'amounts is for a reservation of one item; name the items and their amounts in items.',
                '{"field": "amounts"}')
            FROM _private_settle_targets(jsonb_build_array(request)) t HAVING count(DISTINCT t.item) > 1;
        END IF;
        IF jsonb_typeof(request->'items') = 'object' THEN
            PERFORM _private_check_actual(i.value, 'items') FROM jsonb_each(request->'items') i;
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION earmark._private_check_settle IS 'Refuses malformed requests to settle (QT001), and rollbacks that are not the caller''s to ask for (QT005).';
