CREATE OR REPLACE FUNCTION earmark._private_check_reserve(requests jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    request jsonb;
    item record;
BEGIN
    IF jsonb_typeof(requests) IS DISTINCT FROM 'array' THEN
        PERFORM _private_raise('QT001', 'requests must be a JSON array of objects.');
    END IF;
    FOR request IN SELECT * FROM jsonb_array_elements(requests) LOOP
        IF coalesce(length(request->>'subject'), 0) NOT BETWEEN 1 AND 255 THEN
            PERFORM _private_raise('QT001', 'subject must be a text of 1 to 255 characters.', '{"field": "subject"}');
        END IF;
        PERFORM _private_authorize(request->>'subject');
        IF length(request->>'key') NOT BETWEEN 1 AND 255 THEN
            PERFORM _private_raise('QT001', 'key must be a text of 1 to 255 characters, or absent.', '{"field": "key"}');
        END IF;
        IF jsonb_typeof(request->'ttl_seconds') <> 'number' OR (request->>'ttl_seconds')::numeric NOT BETWEEN 0.001 AND 315360000 THEN
            PERFORM _private_raise('QT001', 'ttl_seconds must be a number above 0, at most ten years.', '{"field": "ttl_seconds"}');
        END IF;
        IF jsonb_typeof(request->'items') IS DISTINCT FROM 'object' OR request->'items' = '{}' THEN
            PERFORM _private_raise('QT001', 'items must name at least one item with its amounts.', '{"field": "items"}');
        END IF;
        FOR item IN SELECT * FROM jsonb_each(request->'items') LOOP
            IF length(item.key) NOT BETWEEN 1 AND 255 THEN
                PERFORM _private_raise('QT001', 'An item is named by a text of 1 to 255 characters.', '{"field": "items"}');
            END IF;
            IF jsonb_typeof(item.value) <> 'object' OR item.value = '{}' THEN
                PERFORM _private_raise('QT001', format('Item %s must have an amount of at least one resource.', to_jsonb(item.key)),
                    jsonb_build_object('field', 'items', 'item', item.key));
            END IF;
            PERFORM _private_check_amount(amount.value, amount.key) FROM jsonb_each(item.value) amount;
        END LOOP;
    END LOOP;
END $$;
COMMENT ON FUNCTION earmark._private_check_reserve IS 'Refuses requests to reserve that no state of the ledger could grant (QT001), or that name somebody else (QT005).';
