CREATE OR REPLACE FUNCTION earmark.get_user_quota(p_user_id uuid)
RETURNS TABLE (used bigint, quota_limit bigint, remaining bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
    SELECT coalesce(u.used, 0), coalesce(u.quota_limit, 0), coalesce(u.remaining, 0)
    FROM (VALUES (true)) always LEFT JOIN usage(p_user_id::text) u ON u.resource = 'images'
$$;
COMMENT ON FUNCTION earmark.get_user_quota IS 'The images a user has used, may use and has left; -1 where unlimited, and nothing of each where his plan counts none.';
