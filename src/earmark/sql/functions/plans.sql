CREATE OR REPLACE FUNCTION earmark.plans()
RETURNS TABLE (plan text, features jsonb, resource text, quota_limit bigint, period text, refundable boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
    SELECT p.plan, p.features, q.resource, coalesce(q.quota, -1), q.period, q.refundable
    FROM _private_plan p
    LEFT JOIN _private_plan_quota q USING (plan)
    ORDER BY 1, 3
$$;
COMMENT ON FUNCTION earmark.plans IS 'The plans, a row per resource; quota_limit is -1 where unlimited.';
