CREATE OR REPLACE FUNCTION earmark.status()
RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
DECLARE
    moment timestamptz := _private_now();
BEGIN
    PERFORM _private_authorize(NULL);
    RETURN jsonb_build_object(
        'at', moment,
        'overdue_holds', (SELECT jsonb_build_object('count', count(*), 'oldest', min(h.expires_at))
            FROM _private_hold h WHERE h.state = 'held' AND h.expires_at <= moment),
        'overdue_images', (SELECT jsonb_build_object('count', count(*), 'oldest', min(i.due_at))
            FROM _private_image i WHERE i.due_at <= moment),
        'set_aside', (SELECT jsonb_build_object('count', count(*), 'oldest', min(s.expires_at),
                'error', (array_agg(s.error ORDER BY s.at DESC))[1])
            FROM set_aside() s),
        'failed_rollbacks', (SELECT jsonb_build_object('count', count(*), 'open', count(*) FILTER (WHERE f.outcome IS NULL),
                'attempts', coalesce(sum(f.attempts), 0), 'last', max(f.failed_at),
                'error', (array_agg(f.error ORDER BY f.failed_at DESC))[1])
            FROM _private_failed_rollback f),
        'duties', (SELECT coalesce(jsonb_object_agg(d.duty, jsonb_build_object('ran_at', d.ran_at, 'failed_at', d.failed_at, 'error', d.error)), '{}')
            FROM _private_duty d),
        'checks', (SELECT coalesce(jsonb_object_agg(c.name, jsonb_build_object('findings', c.findings, 'at', c.at)), '{}')
            FROM _private_check c));
END $$;
COMMENT ON FUNCTION earmark.status IS
'How the background is doing, as one document: overdue holds and images, what is set aside, rollbacks that failed within 30 days and how many are still open,
when each duty last ran and last failed, and how much each check last found, and when. Reads what is open, not what is over. Errors: QT005.';
