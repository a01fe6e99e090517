CREATE OR REPLACE FUNCTION earmark._private_subject_configuration(subject text)
RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN (
        SELECT jsonb_build_object('plan', s.plan, 'parent', s.ancestors[2],
            'anchor', to_char(s.anchor AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) || coalesce((
            SELECT jsonb_object_agg('quotas.' || o.resource, coalesce(o.quota, -1)) FROM _private_subject_quota o
            WHERE (o.root, o.subject) = (s.root, s.subject)), '{}')
        FROM _private_subject s WHERE s.subject = _private_subject_configuration.subject);
END $$;
COMMENT ON FUNCTION earmark._private_subject_configuration IS
    'What is set for a subject, by the names of _private_configuration.what; NULL where he is unknown.';
