CREATE OR REPLACE FUNCTION earmark._private_refundable(root text, subject text, resource text)
RETURNS boolean LANGUAGE plpgsql STABLE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        SELECT q.refundable
        FROM _private_subject s JOIN _private_plan_quota q USING (plan)
        WHERE (s.root, s.subject, q.resource) = (_private_refundable.root, _private_refundable.subject, _private_refundable.resource)
    );
END $$;
COMMENT ON FUNCTION earmark._private_refundable IS 'Whether the subject''s plan gives this resource back when what used it is deleted.';
