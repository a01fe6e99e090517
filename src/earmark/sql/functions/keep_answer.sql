CREATE OR REPLACE FUNCTION earmark.keep_answer(subject text, key text, request jsonb, answer jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM _private_authorize(NULL);
    INSERT INTO _private_answer (root, subject, key, request, answer, created_at)
    SELECT s.root, s.subject, keep_answer.key, keep_answer.request, keep_answer.answer, _private_now()
    FROM _private_subject s WHERE s.subject = keep_answer.subject
    ON CONFLICT DO NOTHING;
    IF NOT FOUND AND EXISTS (SELECT FROM _private_subject s WHERE s.subject = keep_answer.subject) THEN
        RAISE EXCEPTION 'the key was answered before: answer_of tells what' USING ERRCODE = 'unique_violation';
    END IF;
END $$;
COMMENT ON FUNCTION earmark.keep_answer IS
'Remembers what a request under a subject''s key was answered, in the transaction that did it and after its answer_of said new. A subject
that was never registered has nothing, so nothing is remembered for him. Errors: QT005 (services only).';
