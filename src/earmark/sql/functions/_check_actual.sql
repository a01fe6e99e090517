CREATE OR REPLACE FUNCTION earmark._private_check_actual(request jsonb)
RETURNS void LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    given record;
BEGIN
    IF jsonb_typeof(request->'grow') NOT IN ('boolean', 'null') THEN
        PERFORM _private_raise('QT001', 'grow must be true or false.', '{"field": "grow"}');
    END IF;
    FOR given IN
        SELECT 'amounts' AS field, request->'amounts' AS amounts WHERE request ? 'amounts'
        UNION ALL
        SELECT 'items', i.value FROM jsonb_each(CASE jsonb_typeof(request->'items') WHEN 'object' THEN request->'items' END) i
    LOOP
        IF jsonb_typeof(given.amounts) <> 'object' THEN
            PERFORM _private_raise('QT001', format('%s must name resources and their amounts.', given.field),
                jsonb_build_object('field', given.field));
        END IF;
        PERFORM _private_check_amount(a.value, a.key, 0) FROM jsonb_each(given.amounts) a;
    END LOOP;
    IF request ? 'amounts' AND jsonb_typeof(request->'items') = 'object' THEN
        PERFORM _private_raise('QT001', 'Give amounts, for the only item, or items with theirs; not both.', '{"field": "amounts"}');
    END IF;
    IF request ? 'amounts' THEN
        PERFORM _private_raise('QT001', 'amounts is for a reservation of one item; name the items and their amounts in items.',
            '{"field": "amounts"}')
        FROM _private_settle_targets(jsonb_build_array(request)) t HAVING count(DISTINCT t.item) > 1;
    END IF;
    -- A misspelt resource must not leave the hold to be charged in full.
    PERFORM _private_raise('QT001', format('Item %s holds no %s.', to_jsonb(t.item), a.key),
        jsonb_build_object('item', t.item, 'resource', a.key))
    FROM (
        SELECT t.item, array_agg(t.resource) AS resources
        FROM _private_settle_targets(jsonb_build_array(request)) t GROUP BY t.item
    ) t
    CROSS JOIN LATERAL jsonb_each(coalesce(request->'amounts',
        CASE jsonb_typeof(request->'items') WHEN 'object' THEN request->'items'->t.item END)) a
    WHERE a.value::numeric > 0 AND a.key <> ALL (t.resources);
END $$;
COMMENT ON FUNCTION earmark._private_check_actual IS 'Refuses (QT001) a request that does not say properly how much of each resource was really used.';
