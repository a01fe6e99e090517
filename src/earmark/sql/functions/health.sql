CREATE OR REPLACE FUNCTION earmark.health()
RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
DECLARE
    now jsonb := status();
    moment timestamptz := now->>'at';
BEGIN
    RETURN jsonb_build_object(
        'holds', (SELECT count(*) FROM _private_hold h WHERE h.state = 'held' AND h.expires_at IS NOT NULL),
        'holds_overdue', now->'overdue_holds'->'count',
        'holds_overdue_seconds', extract(epoch FROM moment - (now->'overdue_holds'->>'oldest')::timestamptz),
        'set_aside', now->'set_aside'->'count',
        'images', (SELECT coalesce(jsonb_object_agg(i.state, i.number), '{}')
            FROM (SELECT i.state, count(*) AS number FROM _private_image i WHERE i.due_at IS NOT NULL GROUP BY i.state) i),
        'images_overdue', now->'overdue_images'->'count',
        'images_overdue_seconds', extract(epoch FROM moment - (now->'overdue_images'->>'oldest')::timestamptz),
        'images_to_remove', (SELECT count(*) FROM _private_image i WHERE i.remove_objects_at <= moment),
        'tallies', (SELECT coalesce(jsonb_agg(jsonb_build_object('metric', t.metric, 'cause', t.cause,
            'le', nullif(t.le, 'infinity'), 'value', t.value) ORDER BY t.metric, t.cause, t.le), '[]') FROM _private_tally t),
        'checks', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', c.name, 'findings', c.findings, 'at', c.at) ORDER BY c.name), '[]')
            FROM _private_check c));
END $$;
COMMENT ON FUNCTION earmark.health IS
'How the ledger and the uploads are doing, as one document: open and overdue holds and images, the age in seconds of the most overdue (NULL: none is),
what is set aside, images whose objects are to go, what tally has counted (le: upper bound of a bucket in seconds, NULL: none), and what checks found.
Reads what is open, not what is over. Errors: QT005.';
