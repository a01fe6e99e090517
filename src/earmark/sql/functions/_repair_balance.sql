CREATE OR REPLACE FUNCTION earmark._private_repair_balance(
    found earmark._private_figure, why text, who text, OUT seq bigint, OUT committed_after bigint, OUT held_after bigint, OUT story text
) LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    committed_change bigint;
    held_change bigint;
    ceiling_before bigint;
BEGIN
    committed_after := greatest(found.holds_committed, 0);
    held_after := found.holds_held;
    committed_change := committed_after - found.journal_committed;
    held_change := held_after - found.journal_held;
    story := format('%s: of committed + held, balance %s + %s, holds %s + %s, journal %s + %s', why, found.committed, found.held,
        found.holds_committed, found.holds_held, found.journal_committed, found.journal_held);
    SELECT b.ceiling INTO ceiling_before FROM _private_balance b
    WHERE (b.root, b.subject, b.resource, b.period_start) = (found.root, found.subject, found.resource, found.period_start);

    -- The entry is posted like any other, onto a balance that it leaves nowhere below zero; then the balance is what it should be.
    INSERT INTO _private_balance AS b (root, subject, resource, period_start, period_end, committed, held)
    SELECT found.root, found.subject, found.resource, found.period_start, coalesce(max(q.period_end), 'infinity'),
        greatest(0, -committed_change), greatest(0, -held_change)
    FROM _private_quota(ARRAY[found.subject], CASE WHEN isfinite(found.period_start) THEN found.period_start ELSE _private_now() END) q
    WHERE (q.level, q.resource, q.period_start) = (0, found.resource, found.period_start)
    ON CONFLICT (root, subject, resource, period_start) DO UPDATE
    SET committed = excluded.committed, held = excluded.held, ceiling = NULL;
    PERFORM _private_post(ARRAY[ROW(found.root, found.subject, 'adjust', found.resource, found.period_start, NULL, NULL,
        committed_change, held_change, NULL, who, story)::_private_entry], _private_now());
    UPDATE _private_balance b
    SET committed = committed_after, held = held_after,
        ceiling = CASE WHEN ceiling_before IS NOT NULL THEN greatest(ceiling_before, committed_after + held_after) END
    WHERE (b.root, b.subject, b.resource, b.period_start) = (found.root, found.subject, found.resource, found.period_start);

    -- The holds needed no adjusting: what this entry says of committed use is taken off their side again.
    INSERT INTO _private_carried AS c (root, subject, resource, period_start, holds_committed)
    VALUES (found.root, found.subject, found.resource, found.period_start, committed_after - found.holds_committed - committed_change)
    ON CONFLICT (root, subject, resource, period_start) DO UPDATE SET holds_committed = c.holds_committed + excluded.holds_committed;
    SELECT s.entries INTO seq FROM _private_subject s WHERE (s.root, s.subject) = (found.root, found.subject);
END $$;
COMMENT ON FUNCTION earmark._private_repair_balance IS
'Writes the adjustment after which one balance is what the holds say and what the journal sums to. The locks are held by the caller.';
