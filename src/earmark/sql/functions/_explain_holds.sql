CREATE OR REPLACE FUNCTION earmark._private_explain_holds(chosen text, why text, who text)
RETURNS TABLE (root text, resource text, period_start timestamptz, reservation uuid, item text, seq bigint, story text)
LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    hold record;
BEGIN
    FOR hold IN
        SELECT u.*, NOT EXISTS (SELECT FROM _private_reservation p WHERE (p.root, p.reservation) = (u.root, u.reservation)) AS orphaned
        FROM _private_unexplained_holds(chosen) u WHERE u.figure = 'state' ORDER BY u.reservation, u.item, u.resource
    LOOP
        root := hold.root;
        resource := hold.resource;
        period_start := hold.period_start;
        reservation := hold.reservation;
        item := hold.item;
        story := format('%s: the hold is %s, %s', why, coalesce(hold.state, 'missing'), CASE WHEN hold.orphaned THEN 'its reservation was missing'
            ELSE 'its last entry was ' || coalesce(hold.kind, 'missing') END);
        INSERT INTO _private_reservation (root, reservation, subject, outcome, expires_at, created_at)
        SELECT h.root, h.reservation, h.subject, 'granted', h.expires_at, _private_now()
        FROM _private_hold h
        WHERE (h.root, h.reservation) = (hold.root, hold.reservation) AND hold.orphaned
        ORDER BY h.level, h.expires_at DESC
        LIMIT 1
        ON CONFLICT DO NOTHING;
        UPDATE _private_reservation p SET outcome = 'granted', detail = NULL
        WHERE (p.root, p.reservation, p.outcome) = (hold.root, hold.reservation, 'denied') AND hold.state IS NOT NULL;
        PERFORM _private_post(ARRAY[ROW(hold.root, chosen, 'adjust', hold.resource, hold.period_start, hold.reservation, hold.item,
            0, 0, NULL, who, story)::_private_entry], _private_now());
        SELECT s.entries INTO seq FROM _private_subject s WHERE s.subject = chosen;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION earmark._private_explain_holds IS
'Writes an adjustment of nothing for each hold of a subject that is not as the journal says, and
makes the reservation anew where that is missing, or granted where it was denied. The locks are held by the caller.';
