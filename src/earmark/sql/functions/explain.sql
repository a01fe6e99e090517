CREATE OR REPLACE FUNCTION earmark.explain(subject text, max_items int DEFAULT 100, max_changes int DEFAULT 20)
RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
DECLARE
    items jsonb;
    total bigint;
BEGIN
    PERFORM _private_authorize(explain.subject);
    SELECT coalesce(jsonb_agg(to_jsonb(o) - 'total' ORDER BY o.since, o.reservation, o.item), '[]'), coalesce(max(o.total), 0)
    INTO items, total
    FROM _private_open_items(explain.subject, explain.max_items) o;
    RETURN jsonb_build_object(
        'levels', (SELECT jsonb_agg(to_jsonb(u) - 'features' ORDER BY u.level, u.resource)
            FROM _private_usage(explain.subject, top => 32767::smallint) u),
        'open', items,
        'open_total', total,
        'configured', (SELECT coalesce(jsonb_agg(to_jsonb(c) - 'number' ORDER BY c.number DESC), '[]')
            FROM _private_configured(explain.subject, explain.max_changes) c),
        'changes', (SELECT coalesce(jsonb_agg(to_jsonb(c) || jsonb_build_object('filename', i.filename) ORDER BY c.seq DESC), '[]')
            FROM history(explain.subject, max_entries => explain.max_changes) c
            LEFT JOIN _private_subject s ON s.subject = explain.subject
            LEFT JOIN LATERAL (
                SELECT * FROM _private_image i WHERE (i.root, i.reservation, i.item) = (s.root, c.reservation, c.item) OFFSET 0
            ) i ON true));
END $$;
COMMENT ON FUNCTION earmark.explain IS
'Why the subject''s quota is what it is, in one snapshot: levels (as usage_levels), open (what holds quota now: since when, until when, for what;
the oldest max_items of open_total), configured (the newest max_changes: at, actor, of which subject or plan, what, was, became; of him, of all
above him and of the plans they have now) and changes (the newest max_changes of his journal, as history, with the file each is about). Errors: QT002, QT005.';
