CREATE OR REPLACE FUNCTION earmark._private_check_reserve(requests jsonb)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    suspect record;
BEGIN
    IF jsonb_typeof(requests) IS DISTINCT FROM 'array' THEN
        PERFORM _private_raise('QT001', 'requests must be a JSON array of objects.');
    END IF;
    PERFORM _private_authorize(r.subject, actor => r.actor)
    FROM (SELECT DISTINCT r->>'subject' AS subject, r->>'actor' AS actor FROM jsonb_array_elements(requests) r) r
    WHERE length(r.subject) BETWEEN 1 AND 255;

    FOR suspect IN
        SELECT * FROM (
            SELECT i.key AS item, a.key AS resource, a.value AS amount, r.value->>'actor' AS actor, CASE
                WHEN coalesce(length(r.value->>'subject'), 0) NOT BETWEEN 1 AND 255 OR octet_length(r.value->>'subject') > 800 THEN 'subject'
                WHEN length(r.value->>'key') NOT BETWEEN 1 AND 255 OR octet_length(r.value->>'key') > 800 THEN 'key'
                WHEN jsonb_typeof(r.value->'ttl_seconds') <> 'number' THEN 'ttl_seconds'
                WHEN (r.value->'ttl_seconds')::numeric NOT BETWEEN 0.001 AND 315360000 THEN 'ttl_seconds'
                WHEN coalesce(length(i.key), 0) NOT BETWEEN 1 AND 255 OR octet_length(i.key) > 800 THEN 'items'
                WHEN a.key IS NULL THEN 'item'
                WHEN length(r.value->>'actor') > 255 THEN 'actor'
                WHEN a.value::text !~ '^[1-9][0-9]{0,17}$' THEN 'amount'  -- not plainly an amount: to be looked at
                END AS field
            FROM jsonb_array_elements(requests) r
            LEFT JOIN LATERAL jsonb_each(CASE jsonb_typeof(r.value->'items') WHEN 'object' THEN r.value->'items' END) i ON true
            LEFT JOIN LATERAL jsonb_each(CASE jsonb_typeof(i.value) WHEN 'object' THEN i.value END) a ON true
        ) c
        WHERE c.field IS NOT NULL
    LOOP
        IF suspect.field = 'amount' THEN
            PERFORM _private_check_amount(suspect.amount, suspect.resource);
        ELSIF suspect.field = 'actor' THEN
            PERFORM _private_check_words(NULL, suspect.actor);
        ELSE
            PERFORM _private_raise('QT001', CASE suspect.field
                WHEN 'subject' THEN 'subject must be a text of 1 to 255 characters, at most 800 bytes.'
                WHEN 'key' THEN 'key must be a text of 1 to 255 characters, at most 800 bytes, or absent.'
                WHEN 'ttl_seconds' THEN 'ttl_seconds must be a number above 0, at most ten years.'
                WHEN 'items' THEN 'items must be an object of at least one item; an item is named by 1 to 255 characters, at most 800 bytes.'
                ELSE format('Item %s must have an amount of at least one resource.', to_jsonb(suspect.item))
            END, jsonb_strip_nulls(jsonb_build_object('field', suspect.field, 'item', suspect.item)));
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION earmark._private_check_reserve IS 'Refuses requests to reserve that no state of the ledger could grant (QT001), or that name somebody else (QT005).';
