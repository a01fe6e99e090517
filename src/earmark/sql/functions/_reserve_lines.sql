CREATE OR REPLACE FUNCTION earmark._private_reserve_lines(requests earmark._private_request[], moment timestamptz)
RETURNS earmark._private_line[] LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp SET enable_hashjoin = on AS $$
DECLARE
    lines _private_line[];
    line _private_line;
BEGIN
    WITH asked AS (
        SELECT r.ordinal, i.key AS item, a.key AS resource, a.value::numeric::bigint AS amount, r.subject
        FROM unnest(requests) r
        CROSS JOIN LATERAL jsonb_each(r.request->'items') i
        CROSS JOIN LATERAL jsonb_each(i.value) a
        WHERE r.outcome IS NULL AND r.first = r.ordinal
    ), quota AS MATERIALIZED (
        SELECT q.*, dense_rank() OVER (ORDER BY q.root, q.holder, q.resource)::int AS balance
        FROM _private_quota(ARRAY(SELECT DISTINCT a.subject FROM asked a), moment) q
    )
    SELECT array_agg(ROW(a.ordinal, a.item, a.amount, q.balance, q.root, coalesce(q.holder, a.subject), q.level, a.resource,
        q.period_start, q.period_end, q.quota, q.committed + q.held)::_private_line ORDER BY a.ordinal, a.item, a.resource, q.level)
    INTO lines
    FROM asked a
    LEFT JOIN quota q ON (q.subject, q.resource) = (a.subject, a.resource);

    IF lines IS NULL THEN
        RETURN '{}';
    END IF;
    FOREACH line IN ARRAY lines LOOP
        IF line.balance IS NULL THEN
            PERFORM _private_raise('QT004', format('The plan of subject %s does not count %s.', to_jsonb(line.subject), line.resource),
                jsonb_build_object('subject', line.subject, 'resource', line.resource));
        END IF;
    END LOOP;
    RETURN lines;
END $$;
COMMENT ON FUNCTION earmark._private_reserve_lines IS
    'The undecided requests as lines, one per item, resource and level, each with the quota, the period and the use it is decided against; QT004 for a resource the plan lacks.';
