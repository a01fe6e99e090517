CREATE OR REPLACE FUNCTION earmark.use_over_time(subject text, since timestamptz, points int DEFAULT 120)
RETURNS TABLE (resource text, at timestamptz, committed bigint, held bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := _private_now();
    who _private_subject;
    first bigint;
    last bigint;
    middle bigint;
    known timestamptz;
BEGIN
    PERFORM _private_authorize(use_over_time.subject);
    IF use_over_time.points IS NULL OR use_over_time.points NOT BETWEEN 1 AND 1000 OR coalesce(use_over_time.since >= moment, true) THEN
        PERFORM _private_raise('QT001', 'since must be in the past, and points a number from 1 to 1000.');
    END IF;
    SELECT * INTO who FROM _private_subject s WHERE s.subject = use_over_time.subject;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    -- The first entry after `since`: entries are numbered without gaps, in the order of time.
    first := who.pruned_seq + 1;
    last := who.entries + 1;
    WHILE first < last LOOP
        middle := (first + last) / 2;
        IF (SELECT j.at FROM _private_journal j WHERE (j.root, j.subject, j.seq) = (who.root, who.subject, middle)) > since THEN
            last := middle;
        ELSE
            first := middle + 1;
        END IF;
    END LOOP;
    IF who.pruned_seq > 0 AND first = who.pruned_seq + 1 THEN
        SELECT j.at INTO known FROM _private_journal j WHERE (j.root, j.subject, j.seq) = (who.root, who.subject, first);
    END IF;

    RETURN QUERY
    WITH moments AS (
        SELECT n, since + (moment - since) * (n / points::float8) AS at FROM generate_series(0, points) n
    ), changes AS MATERIALIZED (
        SELECT j.resource, j.period_start, m.n, sum(j.committed)::bigint AS committed, sum(j.held)::bigint AS held,
            bool_or(j.kind = 'reserve') AS granted
        FROM _private_journal j
        CROSS JOIN LATERAL (SELECT least(points,
            ceil(extract(epoch FROM j.at - since) * points / extract(epoch FROM moment - since))::int) AS n) m
        WHERE (j.root, j.subject) = (who.root, who.subject) AND j.seq >= first
        GROUP BY 1, 2, 3
    )
    -- Back from what is used now: that needs no more of the journal than what came since. Where the plan's period was changed, two
    -- balances hold the moment: that of the latest grant by then, but now, and where none tells, that of the plan's period now.
    SELECT DISTINCT ON (r.resource, m.at) r.resource, m.at,
        coalesce(b.committed, 0) - w.committed, coalesce(b.held, 0) - w.held
    FROM (SELECT DISTINCT b.resource FROM _private_balance b WHERE (b.root, b.subject) = (who.root, who.subject)) r
    CROSS JOIN moments m
    LEFT JOIN (
        _private_balance b
        LEFT JOIN _private_quota(ARRAY[who.subject], moment) q ON q.level = 0 AND (q.resource, q.period_start) = (b.resource, b.period_start)
    ) ON (b.root, b.subject, b.resource) = (who.root, who.subject, r.resource)
        AND b.period_start <= m.at AND m.at < coalesce(q.period_end, b.period_end)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(c.committed) FILTER (WHERE c.n > m.n), 0)::bigint AS committed,
            coalesce(sum(c.held) FILTER (WHERE c.n > m.n), 0)::bigint AS held, max(c.n) FILTER (WHERE c.granted AND c.n <= m.n) AS granted
        FROM changes c WHERE (c.resource, c.period_start) = (b.resource, b.period_start)
    ) w
    WHERE known IS NULL OR m.at >= known
    ORDER BY r.resource, m.at, m.n < points OR q.resource IS NULL, w.granted DESC NULLS LAST, q.resource IS NULL, b.period_start DESC;
END $$;
COMMENT ON FUNCTION earmark.use_over_time IS
'What the subject used at evenly spaced moments from then until now, in the period that each fell in: points + 1 for each resource, fewer where his journal
was pruned. No rows for somebody never seen. Reads what his journal has since then. Errors: QT001, QT005.';
