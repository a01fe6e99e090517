CREATE OR REPLACE FUNCTION earmark._private_open_items(subject text, max_items int)
RETURNS TABLE (reservation uuid, item text, owner text, amounts jsonb, key text, since timestamptz, actor text, expires_at timestamptz,
    overdue boolean, earlier_period boolean, image uuid, filename text, image_state text, total bigint)
LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT o.reservation, o.item, p.subject, o.amounts, p.key, p.created_at, j.actor, o.expires_at, o.expires_at <= o.moment, o.earlier_period,
        i.image, i.filename, i.state, o.total
    FROM (
        SELECT h.root, h.reservation, h.item, jsonb_object_agg(h.resource, h.amount) AS amounts, min(h.expires_at) AS expires_at,
            coalesce(bool_or(h.period_start < q.period_start), false) AS earlier_period, count(*) OVER () AS total, n.moment
        FROM _private_now() n (moment)
        JOIN _private_subject s ON s.subject = _private_open_items.subject
        JOIN _private_hold h ON (h.root, h.subject) = (s.root, s.subject) AND h.settled_at IS NULL
        LEFT JOIN _private_quota(ARRAY[s.subject], n.moment) q ON q.level = 0 AND q.resource = h.resource
        GROUP BY h.root, h.reservation, h.item, n.moment
        ORDER BY h.reservation, h.item
        LIMIT greatest(max_items, 0)
    ) o
    JOIN _private_reservation p ON (p.root, p.reservation) = (o.root, o.reservation)
    LEFT JOIN _private_image i ON (i.root, i.reservation, i.item) = (o.root, o.reservation, o.item)
    LEFT JOIN LATERAL (
        SELECT e.actor FROM _private_journal e
        WHERE (e.root, e.reservation, e.item, e.kind) = (o.root, o.reservation, o.item, 'reserve') AND e.subject = p.subject LIMIT 1
    ) j ON true
    ORDER BY p.created_at, o.reservation, o.item;
END $$;
COMMENT ON FUNCTION earmark._private_open_items IS
'What holds quota of a subject, his own and, where he is above others, theirs: per item who reserved it, and the file it is for.
overdue: comes back before anybody is refused for it. earlier_period: some of it counts in a period that is over. total: how many there are.';
