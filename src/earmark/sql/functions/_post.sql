CREATE OR REPLACE FUNCTION earmark._private_post(entries earmark._private_entry[], at timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    IF cardinality(_private_post.entries) = 0 THEN
        RETURN;
    END IF;
    UPDATE _private_balance b
    SET committed = b.committed + d.committed, held = b.held + d.held
    FROM (
        SELECT e.root, e.subject, e.resource, e.period_start, sum(e.committed) AS committed, sum(e.held) AS held
        FROM unnest(_private_post.entries) e
        GROUP BY e.root, e.subject, e.resource, e.period_start
    ) d
    WHERE (b.root, b.subject, b.resource, b.period_start) = (d.root, d.subject, d.resource, d.period_start);

    INSERT INTO _private_journal
        (root, subject, seq, at, kind, resource, period_start, reservation, item, committed, held, cause, actor, reason)
    SELECT e.root, e.subject, s.entries + row_number() OVER (PARTITION BY e.root, e.subject ORDER BY e.ordinality),
        _private_post.at, e.kind, e.resource, e.period_start, e.reservation, e.item, e.committed, e.held, e.cause, e.actor, e.reason
    FROM unnest(_private_post.entries) WITH ORDINALITY e
    JOIN _private_subject s USING (root, subject);

    UPDATE _private_subject s
    SET entries = s.entries + c.count
    FROM (SELECT e.root, e.subject, count(*) FROM unnest(_private_post.entries) e GROUP BY e.root, e.subject) c
    WHERE (s.root, s.subject) = (c.root, c.subject);
END $$;
COMMENT ON FUNCTION earmark._private_post IS
    'The one way a balance changes: applies the entries to the balances and appends them to the journal. The subjects'' locks are held by the caller.';
