-- The requirement's own two RPCs, as they are written by hand everywhere: a counter per user, and nothing else.
CREATE TABLE user_quota (
    user_id uuid PRIMARY KEY,
    used int NOT NULL DEFAULT 0,
    quota_limit int NOT NULL DEFAULT 1000000000
);

CREATE FUNCTION check_and_reserve_slots(p_user_id uuid, p_count int DEFAULT 1)
RETURNS TABLE (success boolean, used int, quota_limit int, remaining int) LANGUAGE plpgsql AS $$
DECLARE
    quota user_quota;
BEGIN
    SELECT * INTO quota FROM user_quota q WHERE q.user_id = p_user_id FOR UPDATE;
    IF quota.used + p_count > quota.quota_limit THEN
        RETURN QUERY SELECT false, quota.used, quota.quota_limit, quota.quota_limit - quota.used;
        RETURN;
    END IF;
    UPDATE user_quota q SET used = q.used + p_count WHERE q.user_id = p_user_id;
    RETURN QUERY SELECT true, quota.used + p_count, quota.quota_limit, quota.quota_limit - quota.used - p_count;
END $$;

CREATE FUNCTION decrement_user_image_count(p_user_id uuid, p_count int DEFAULT 1)
RETURNS TABLE (used int, quota_limit int, remaining int) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    UPDATE user_quota q SET used = greatest(q.used - p_count, 0) WHERE q.user_id = p_user_id
    RETURNING q.used, q.quota_limit, q.quota_limit - q.used;
END $$;
