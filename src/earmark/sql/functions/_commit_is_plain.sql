CREATE OR REPLACE FUNCTION earmark._private_commit_is_plain(requests jsonb, moment timestamptz)
RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN NOT EXISTS (
        SELECT FROM _private_settle_targets(requests) t
        WHERE t.actual > t.amount OR (t.state = 'rolled_back' AND t.held_cause = 'expired')
            OR (t.state = 'held' AND t.expires_at <= moment AND t.late = 'refuse'));
END $$;
COMMENT ON FUNCTION earmark._private_commit_is_plain IS 'Whether no commit is for more than was reserved, and none comes late to something that needs a decision.';
