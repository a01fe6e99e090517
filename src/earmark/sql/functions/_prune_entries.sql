CREATE OR REPLACE FUNCTION earmark._private_prune_entries(root text, subject text, before timestamptz, max_entries bigint)
RETURNS bigint LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    book _private_subject;
    last bigint;
    last_hash bytea;
    broken bigint;
BEGIN
    PERFORM FROM _private_subject t
    WHERE (t.root, t.subject) = (root, root) AND EXISTS (
        SELECT FROM _private_subject s
        JOIN _private_journal j ON (j.root, j.subject, j.seq) = (s.root, s.subject, s.pruned_seq + 1)
        WHERE (s.root, s.subject) = (root, subject) AND j.at < before)
    FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    SELECT * INTO book FROM _private_subject s WHERE (s.root, s.subject) = (root, subject);
    WITH oldest AS (
        SELECT j.seq, j.hash, j.at < before AS is_old, j.seq = book.pruned_seq + row_number() OVER chain
            AND j.hash = sha256(lag(j.hash, 1, book.pruned_head) OVER chain || _private_entry_content(j.root, j.subject, j.seq, j.at, j.kind,
                j.resource, j.period_start, j.reservation, j.item, j.committed, j.held, j.cause, j.actor, j.reason)) AS is_sound
        FROM (
            SELECT * FROM _private_journal j WHERE (j.root, j.subject) = (root, subject) AND j.seq > book.pruned_seq
            ORDER BY j.seq
            LIMIT max_entries
        ) j
        WINDOW chain AS (ORDER BY j.seq)
    ), judged AS (
        SELECT o.*, bool_and(o.is_old AND o.is_sound) OVER (ORDER BY o.seq) AS goes FROM oldest o
    )
    SELECT max(d.seq) FILTER (WHERE d.goes), (array_agg(d.hash ORDER BY d.seq DESC) FILTER (WHERE d.goes))[1],
        min(d.seq) FILTER (WHERE d.is_old AND NOT d.is_sound)
    INTO last, last_hash, broken
    FROM judged d;
    IF broken IS NOT NULL THEN
        RAISE WARNING 'the journal of % is broken at entry %: it is kept from there', subject, broken;
    END IF;
    IF last IS NULL THEN
        RETURN 0;
    END IF;

    INSERT INTO _private_carried AS c (root, subject, resource, period_start, journal_committed, journal_held, holds_committed)
    SELECT root, subject, j.resource, j.period_start, sum(j.committed), sum(j.held), coalesce(sum(j.committed) FILTER (WHERE j.kind = 'adjust'), 0)
    FROM _private_journal j
    WHERE (j.root, j.subject) = (root, subject) AND j.seq > book.pruned_seq AND j.seq <= last
    GROUP BY j.resource, j.period_start
    ON CONFLICT ON CONSTRAINT _private_carried_pkey DO UPDATE SET journal_committed = c.journal_committed + excluded.journal_committed,
        journal_held = c.journal_held + excluded.journal_held, holds_committed = c.holds_committed + excluded.holds_committed;
    UPDATE _private_subject s SET pruned_seq = last, pruned_head = last_hash WHERE (s.root, s.subject) = (root, subject);
    DELETE FROM _private_journal j WHERE (j.root, j.subject) = (root, subject) AND j.seq > book.pruned_seq AND j.seq <= last;
    RETURN last - book.pruned_seq;
END $$;
COMMENT ON FUNCTION earmark._private_prune_entries IS
'Removes one subject''s oldest journal entries, those before a moment that are sound, and carries their sums; how many. Locks the tree; none where it is locked by others.';
