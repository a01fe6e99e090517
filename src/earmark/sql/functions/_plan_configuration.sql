CREATE OR REPLACE FUNCTION earmark._private_plan_configuration(plan text)
RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN (
        SELECT coalesce((SELECT jsonb_object_agg('features.' || f.key, f.value) FROM jsonb_each(p.features) f), '{}')
            || coalesce((
                SELECT jsonb_object_agg('quotas.' || q.resource, coalesce(q.quota, -1))
                    || jsonb_object_agg('periods.' || q.resource, q.period) || jsonb_object_agg('refundable.' || q.resource, q.refundable)
                FROM _private_plan_quota q WHERE q.plan = p.plan), '{}')
        FROM _private_plan p WHERE p.plan = _private_plan_configuration.plan);
END $$;
COMMENT ON FUNCTION earmark._private_plan_configuration IS
    'What a plan says, by the names of _private_configuration.what; NULL where there is none.';
