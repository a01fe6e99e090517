CREATE OR REPLACE FUNCTION earmark._private_check_adopt(requests jsonb, key text)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    one record;
BEGIN
    IF jsonb_typeof(requests) IS DISTINCT FROM 'array' THEN
        PERFORM _private_raise('QT001', 'requests must be a JSON array of objects.');
    END IF;
    -- The resource stands behind it in the key of each adjustment, which has 255 characters at most.
    IF coalesce(length(_private_check_adopt.key), 0) NOT BETWEEN 1 AND 100 THEN
        PERFORM _private_raise('QT001', 'key must be a text of 1 to 100 characters.', '{"field": "key"}');
    END IF;
    FOR one IN
        SELECT r.value AS request, r.value->>'subject' AS subject, r.value->>'resource' AS resource, r.value->>'plan' AS plan,
            count(*) OVER (PARTITION BY r.value->>'subject', r.value->>'resource') AS times,
            min(r.value->>'plan') OVER (PARTITION BY r.value->>'subject') AS other
        FROM jsonb_array_elements(requests) r
    LOOP
        PERFORM _private_check_amount(one.request->'used', coalesce(one.resource, 'used'), 0);
        IF coalesce(length(one.subject), 0) NOT BETWEEN 1 AND 255 OR octet_length(one.subject) > 800 THEN
            PERFORM _private_raise('QT001', 'subject must be a text of 1 to 255 characters, at most 800 bytes.', '{"field": "subject"}');
        ELSIF one.times > 1 THEN
            PERFORM _private_raise('QT001', format('%s of %s is named twice.', one.resource, to_jsonb(one.subject)),
                jsonb_build_object('subject', one.subject, 'resource', one.resource));
        ELSIF one.plan <> one.other THEN
            PERFORM _private_raise('QT001', format('%s is given two plans, %s and %s.', to_jsonb(one.subject), one.plan, one.other),
                jsonb_build_object('subject', one.subject, 'field', 'plan'));
        ELSIF one.plan IS NOT NULL AND NOT EXISTS (SELECT FROM _private_plan p WHERE p.plan = one.plan) THEN
            PERFORM _private_raise('QT003', format('There is no plan %s.', to_jsonb(one.plan)),
                jsonb_build_object('plan', one.plan, 'subject', one.subject));
        END IF;
    END LOOP;
END $$;
COMMENT ON FUNCTION earmark._private_check_adopt IS 'Refuses (QT001, QT003) use to adopt that is below zero, named twice, or on a plan that does not exist.';
