CREATE OR REPLACE FUNCTION earmark._private_limit_refund(requests jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    one record;
    given bigint;
    rest bigint[];
BEGIN
    FOR one IN
        SELECT * FROM (
            SELECT a.*, bool_or(a.asked > a.used) OVER (PARTITION BY a.root) AS is_short,
                dense_rank() OVER (ORDER BY a.root, a.subject, a.resource, a.period_start)::int AS balance
            FROM (
                SELECT d.*, coalesce(b.committed, 0) AS used,
                    sum(d.committed) OVER (PARTITION BY d.root, d.subject, d.resource, d.period_start) AS asked
                FROM (
                    SELECT DISTINCT ON (t.root, t.reservation, t.item, t.resource, t.level) t.*
                    FROM _private_settle_targets(requests) t
                    WHERE t.state = 'committed' AND _private_refundable(t.root, t.owner, t.resource)
                    ORDER BY t.root, t.reservation, t.item, t.resource, t.level, t.ordinal
                ) d
                LEFT JOIN _private_balance b
                    ON (b.root, b.subject, b.resource, b.period_start) = (d.root, d.subject, d.resource, d.period_start)
            ) a
        ) s
        WHERE s.is_short
        ORDER BY s.ordinal, s.reservation, s.item, s.resource, s.level
    LOOP
        -- Above him no more than of his own: the rest is what others used.
        given := least(one.committed, coalesce(rest[one.balance], one.used), CASE WHEN one.level > 0 THEN given END);
        rest[one.balance] := coalesce(rest[one.balance], one.used) - given;
        CONTINUE WHEN given = one.committed;
        UPDATE _private_hold h SET committed = given
        WHERE (h.root, h.reservation, h.item, h.resource, h.subject) = (one.root, one.reservation, one.item, one.resource, one.subject);
        INSERT INTO _private_carried AS c (root, subject, resource, period_start, holds_committed)
        VALUES (one.root, one.subject, one.resource, one.period_start, one.committed - given)
        ON CONFLICT (root, subject, resource, period_start) DO UPDATE SET holds_committed = c.holds_committed + excluded.holds_committed;
    END LOOP;
END $$;
COMMENT ON FUNCTION earmark._private_limit_refund IS
'Where adjustments have left less than refunds would give back, which a plan that was changed to one that refunds allows: the holds are of what is left from then on,
the first named first, and that is what their refund gives back. The rest, which came back already, is carried on the side of the holds. The locks are held by the caller.';
