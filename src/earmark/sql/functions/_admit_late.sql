CREATE OR REPLACE FUNCTION earmark._private_admit_late(requests jsonb, moment timestamptz)
RETURNS jsonb LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    lines _private_line[];
    short jsonb;
BEGIN
    PERFORM _private_settle(ARRAY(
        SELECT DISTINCT ROW(l.ordinal, l.root, l.reservation, l.item, 'rolled_back', 'expired', 'deadline', NULL, NULL)::_private_settlement
        FROM _private_late(requests, moment) l WHERE l.late = 'refuse'), moment);

    LOOP
        -- What the subject's plan has ceased to count has a quota of nothing.
        SELECT array_agg(ROW(1, l.item, l.amount, coalesce(b.balance, 0), l.root, l.subject, l.resource, b.period_start, b.period_end,
            CASE WHEN b.balance IS NULL THEN 0 ELSE b.quota END, coalesce(b.committed + b.held, 0))::_private_line)
        INTO lines
        FROM _private_late(requests, moment) l
        LEFT JOIN (
            SELECT q.*, row_number() OVER ()::int AS balance
            FROM _private_quota(ARRAY(SELECT DISTINCT n.subject FROM _private_late(requests, moment) n), moment) q
        ) b ON (b.subject, b.resource) = (l.subject, l.resource)
        WHERE l.late = 'reacquire';
        IF lines IS NULL THEN
            RETURN '{}';
        END IF;
        EXIT WHEN (_private_decide(lines))[1];
        -- A second round only where there are overdue holds of his own, which then come back first.
        IF _private_expire_overdue(ARRAY(SELECT DISTINCT l.subject FROM unnest(lines) l), moment) = 0 THEN
            SELECT s.short INTO short FROM _private_shortage(lines, ARRAY[false]) s;
            RETURN jsonb_build_object('1', jsonb_build_object('outcome', 'denied', 'detail', jsonb_build_object('short', short)));
        END IF;
    END LOOP;
    PERFORM _private_reacquire((requests->0->>'reservation')::uuid, lines, requests->0->>'actor', moment);
    RETURN '{}';
END $$;
COMMENT ON FUNCTION earmark._private_admit_late IS
    'For a single late commit: takes quota anew in today''s period, or says by ordinal why not. Late and refused: given back first.';
