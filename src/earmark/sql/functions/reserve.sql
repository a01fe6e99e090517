CREATE OR REPLACE FUNCTION earmark.reserve(requests jsonb)
RETURNS TABLE (ordinal int, outcome text, reservation uuid, expires_at timestamptz, replayed boolean, detail jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    asked _private_request[];
    lines _private_line[];
    granted boolean[];
    moment timestamptz;
BEGIN
    PERFORM _private_check_reserve(requests);
    PERFORM _private_lock_subjects(ARRAY(SELECT DISTINCT r->>'subject' FROM jsonb_array_elements(requests) r));
    asked := _private_reserve_requests(requests);
    LOOP
        moment := _private_now();
        lines := _private_reserve_lines(asked, moment);
        granted := _private_decide(lines);
        EXIT WHEN false <> ALL (granted) OR granted IS NULL;
        -- A second round only where somebody is short and has overdue holds of his own, which then come back first.
        EXIT WHEN _private_expire_overdue(
            ARRAY(SELECT DISTINCT l.subject FROM unnest(lines) l WHERE NOT granted[l.ordinal]), moment) = 0;
    END LOOP;
    asked := _private_reserve_outcomes(asked, lines, granted, moment);
    PERFORM _private_write_reserve(asked, lines, moment);
    RETURN QUERY
    SELECT a.ordinal, a.outcome, CASE a.outcome WHEN 'granted' THEN a.reservation END,
        CASE a.outcome WHEN 'granted' THEN a.expires_at END, a.replayed, a.detail
    FROM unnest(asked) a;
END $$;
COMMENT ON FUNCTION earmark.reserve IS
'Reserves quota for many requests at once, each whole or not at all, decided in order. A grant needs room, and holds, at every level of the subject''s tree.
requests: [{subject, items: {item: {resource: amount}}, key?, ttl_seconds? (900), actor?, note?}].
outcome: granted, denied (detail.short says what was missing), or conflict (the key was used for another request; detail.differs).
replayed: the answer stored under the key. Errors: QT001, QT002, QT004, QT005. Locks the subjects'' trees; safe to retry with a key.';
