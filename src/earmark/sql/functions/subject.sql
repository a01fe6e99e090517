CREATE OR REPLACE FUNCTION earmark.subject(subject text)
RETURNS TABLE (plan text, parent text, ancestors text[], anchor timestamptz, quotas jsonb, registered_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_authorize(subject.subject);
    RETURN QUERY
    SELECT s.plan, s.ancestors[2], s.ancestors[2:], s.anchor,
        coalesce((SELECT jsonb_object_agg(o.resource, coalesce(o.quota, -1)) FROM _private_subject_quota o
            WHERE (o.root, o.subject) = (s.root, s.subject)), '{}'),
        s.created_at
    FROM _private_subject s WHERE s.subject = subject.subject;
    IF FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY
    SELECT d.value, NULL, '{}'::text[], '1970-01-01T00:00:00Z'::timestamptz, '{}'::jsonb, NULL::timestamptz
    FROM _private_setting d WHERE d.name = 'default_plan';
    IF NOT FOUND THEN
        PERFORM _private_raise('QT002', format('Subject %s is unknown.', to_jsonb(subject.subject)),
            jsonb_build_object('subject', subject.subject));
    END IF;
END $$;
COMMENT ON FUNCTION earmark.subject IS
'What is set for a subject: plan, parent, all above him up to the root, anchor, and quotas of his own ({resource: n}; -1: unlimited).
registered_at is NULL where he was never seen: then it is what he would start with. Errors: QT002, QT005.';
