CREATE OR REPLACE FUNCTION earmark._private_post(entries earmark._private_entry[], moment timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    WITH numbered AS (
        SELECT e.*, s.head, s.entries + row_number() OVER (PARTITION BY s.root, s.subject ORDER BY e.ordinality) AS seq
        FROM unnest(_private_post.entries) WITH ORDINALITY e
        JOIN _private_subject s USING (root, subject)
    ), chained AS MATERIALIZED (
        SELECT n.*, _private_chain(n.head, _private_entry_content(n.root, n.subject, n.seq, moment, n.kind, n.resource, n.period_start,
            n.reservation, n.item, n.committed, n.held, n.cause, n.actor, n.reason))
            OVER (PARTITION BY n.root, n.subject ORDER BY n.ordinality) AS hash
        FROM numbered n
    ), balanced AS (
        UPDATE _private_balance b
        SET committed = b.committed + a.committed, held = b.held + a.held
        FROM (
            SELECT c.root, c.subject, c.resource, c.period_start, sum(c.committed) AS committed, sum(c.held) AS held
            FROM chained c GROUP BY c.root, c.subject, c.resource, c.period_start
        ) a
        WHERE (b.root, b.subject, b.resource, b.period_start) = (a.root, a.subject, a.resource, a.period_start)
    ), written AS (
        INSERT INTO _private_journal (root, subject, seq, at, kind, resource, period_start, reservation, item, committed, held,
            cause, actor, reason, hash)
        SELECT c.root, c.subject, c.seq, moment, c.kind, c.resource, c.period_start, c.reservation, c.item, c.committed, c.held,
            c.cause, c.actor, c.reason, c.hash
        FROM chained c
    )
    UPDATE _private_subject s
    SET entries = l.seq, head = l.hash
    FROM (SELECT DISTINCT ON (c.root, c.subject) c.* FROM chained c ORDER BY c.root, c.subject, c.seq DESC) l
    WHERE (s.root, s.subject) = (l.root, l.subject);
END $$;
COMMENT ON FUNCTION earmark._private_post IS
'The one way a balance changes: applies the entries to the balances and appends them to the journal, each chained to its subject''s entry before. The locks are held by the caller.';
