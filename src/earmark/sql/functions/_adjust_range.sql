CREATE OR REPLACE FUNCTION earmark._private_adjust_range(
    change bigint, root text, holder text, resource text, period_start timestamptz, committed bigint, held bigint,
    OUT lowest bigint, OUT highest bigint
) LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    refundable numeric;
BEGIN
    IF change > 0 THEN
        highest := 9223372036854775807 - committed - held;
        RETURN;
    END IF;
    SELECT coalesce(sum(h.committed), 0) INTO refundable
    FROM _private_hold h
    JOIN _private_reservation r ON (r.root, r.reservation) = (h.root, h.reservation)
    JOIN _private_subject s ON (s.root, s.subject) = (r.root, r.subject)
    JOIN _private_plan_quota q ON (q.plan, q.resource) = (s.plan, h.resource)
    WHERE (h.root, h.subject, h.resource, h.period_start)
            = (_private_adjust_range.root, holder, _private_adjust_range.resource, _private_adjust_range.period_start)
        AND h.state = 'committed' AND q.refundable
        AND EXISTS (SELECT FROM _private_plan_quota p WHERE p.resource = _private_adjust_range.resource AND p.refundable);
    lowest := CASE WHEN refundable < committed THEN refundable - committed ELSE 0 END;
END $$;
COMMENT ON FUNCTION earmark._private_adjust_range IS
'How far committed use can be changed, in the direction of `change`: up, to what 64 bits hold; down, to nothing, or where stored things can yet be refunded, to what
they take: only their refund gives that back. The other bound is NULL.';
