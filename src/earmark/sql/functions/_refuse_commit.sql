CREATE OR REPLACE FUNCTION earmark._private_refuse_commit(request jsonb, moment timestamptz)
RETURNS jsonb LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    exceeding jsonb;
    lines _private_line[];
BEGIN
    SELECT jsonb_agg(jsonb_build_object('item', t.item, 'resource', t.resource, 'held', t.amount, 'actual', t.actual))
    INTO exceeding
    FROM _private_settle_targets(request) t
    WHERE t.level = 0 AND t.actual > t.amount AND (request->0->>'grow')::boolean IS NOT TRUE
        AND (t.state = 'held' OR (t.state = 'rolled_back' AND t.held_cause = 'expired' AND t.late = 'reacquire'));
    IF exceeding IS NOT NULL THEN
        RETURN jsonb_build_object('outcome', 'exceeds_hold', 'detail', jsonb_build_object('exceeds', exceeding));
    END IF;

    PERFORM _private_settle(
        jsonb_build_array(_private_expiry((request->0->>'reservation')::uuid, array_agg(DISTINCT t.item))), 'rolled_back', moment)
    FROM _private_settle_targets(request) t
    WHERE t.state = 'held' AND t.expires_at <= moment AND t.late = 'refuse'
    HAVING count(*) > 0;

    LOOP
        lines := _private_late_lines(request, moment);
        EXIT WHEN lines IS NULL;
        IF (_private_decide(lines))[1] THEN
            PERFORM _private_reacquire((request->0->>'reservation')::uuid, lines, request->0->>'actor', moment);
            EXIT;
        END IF;
        -- A second round only where there are overdue holds of his own, which then come back first.
        IF _private_expire_overdue(ARRAY(SELECT DISTINCT l.subject FROM unnest(lines) l), moment) = 0 THEN
            RETURN jsonb_build_object('outcome', 'denied', 'detail',
                (SELECT jsonb_build_object('short', s.short) FROM _private_shortage(lines, ARRAY[false]) s));
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION earmark._private_refuse_commit IS
'For a single commit: why it must be refused, NULL where it may go ahead. What expired, and what it may grow by, is taken where there is room; what is late and may not be is given back first.';
