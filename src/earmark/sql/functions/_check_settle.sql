CREATE OR REPLACE FUNCTION earmark._private_check_settle(requests jsonb, needs_cause boolean DEFAULT false)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    suspect record;
BEGIN
    IF jsonb_typeof(requests) IS DISTINCT FROM 'array' THEN
        PERFORM _private_raise('QT001', 'requests must be a JSON array of objects.');
    END IF;
    IF needs_cause THEN
        PERFORM _private_check_cause(r.cause), _private_authorize(r.subject, r.cause, r.actor)
        FROM (SELECT DISTINCT r->>'cause' AS cause, r->>'subject' AS subject, r->>'actor' AS actor FROM jsonb_array_elements(requests) r) r;
    END IF;

    FOR suspect IN
        SELECT * FROM (
            SELECT r.value AS request, CASE
                WHEN coalesce(r.value->>'reservation', '') !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN 'reservation'
                WHEN coalesce(jsonb_typeof(r.value->'items'), 'null') NOT IN ('null', 'array', 'object')
                    OR r.value @? 'strict $.items[*] ? (@.type() != "string")' THEN 'items'
                WHEN coalesce(r.value->>'late', 'reacquire') NOT IN ('reacquire', 'refuse') THEN 'late'
                WHEN r.value ?| '{amounts,grow}' OR jsonb_typeof(r.value->'items') = 'object' THEN 'amounts'  -- to be looked at
                WHEN greatest(length(r.value->>'reason'), length(r.value->>'actor')) > 200 THEN 'words'  -- likewise
                END AS field
            FROM jsonb_array_elements(requests) r
        ) c
        WHERE c.field IS NOT NULL
    LOOP
        IF suspect.field IN ('amounts', 'words') THEN
            PERFORM _private_check_words(suspect.request->>'reason', suspect.request->>'actor');
            IF suspect.field = 'amounts' THEN
                PERFORM _private_check_actual(suspect.request);
            END IF;
        ELSE
            PERFORM _private_raise('QT001', CASE suspect.field
                WHEN 'reservation' THEN 'reservation must be a UUID.'
                WHEN 'items' THEN 'items must be an array of names, or an object of names and amounts.'
                ELSE 'late must be reacquire or refuse.'
            END, jsonb_build_object('field', suspect.field));
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION earmark._private_check_settle IS 'Refuses malformed requests to settle (QT001), and rollbacks that are not the caller''s to ask for (QT005).';
