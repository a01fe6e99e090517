CREATE OR REPLACE FUNCTION earmark._private_caller(OUT subject text, OUT service boolean)
LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
DECLARE
    claims jsonb := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
    -- Of the session, as it was before any SECURITY DEFINER function: current_user is the owner by now.
    role text := coalesce(nullif(current_setting('role'), 'none'), session_user);
BEGIN
    subject := claims->>'sub';
    service := coalesce(claims IS NULL OR claims->>'role' IN ('service_role', role), false)
        AND has_function_privilege(role, 'earmark.commit(jsonb)', 'EXECUTE');
END $$;
COMMENT ON FUNCTION earmark._private_caller IS
'Who calls. A service: may execute commit, as the roles of `earmark migrate --grant service=` may, and its JWT claims, if there are any, are a service''s too.
Anybody else is the subject his claims name, and nobody without claims.';
