CREATE OR REPLACE FUNCTION earmark.answer_of(subject text, key text, request jsonb)
RETURNS TABLE (outcome text, answer jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    earlier _private_answer;
BEGIN
    PERFORM _private_authorize(NULL);
    IF NOT pg_try_advisory_xact_lock(hashtextextended(answer_of.key, hashtextextended(answer_of.subject, 0))) THEN
        RETURN QUERY SELECT 'in_flight', NULL::jsonb;
        RETURN;
    END IF;
    SELECT a.* INTO earlier FROM _private_subject s
    JOIN _private_answer a ON (a.root, a.subject) = (s.root, s.subject)
    WHERE s.subject = answer_of.subject AND a.key = answer_of.key;
    RETURN QUERY SELECT CASE WHEN earlier.key IS NULL THEN 'new' WHEN earlier.request = answer_of.request THEN 'replayed' ELSE 'conflict' END,
        CASE WHEN earlier.request = answer_of.request THEN earlier.answer
            WHEN earlier.key IS NOT NULL THEN _private_differs(earlier.request, answer_of.request) END;
END $$;
COMMENT ON FUNCTION earmark.answer_of IS
'What was answered before under a subject''s key, and, until the end of the transaction, the right to answer under it.
outcome: new; replayed (answer: as keep_answer stored it); conflict (the key was used for another request; answer: {differs}); in_flight (another
transaction is at it: nothing was waited for). The lock on the key is only ever tried, so it adds nothing to deadlock on. Errors: QT005 (services only).';
