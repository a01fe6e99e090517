CREATE OR REPLACE FUNCTION earmark.adjust(requests jsonb)
RETURNS TABLE (ordinal int, outcome text, replayed boolean, detail jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    one jsonb;
    asked jsonb;
    earlier _private_adjustment;
    moment timestamptz;
BEGIN
    PERFORM _private_authorize(NULL);
    PERFORM _private_check_adjust(requests);
    PERFORM _private_lock_subjects(ARRAY(SELECT DISTINCT r->>'subject' FROM jsonb_array_elements(requests) r));
    moment := _private_now();
    FOR place IN 0 .. jsonb_array_length(requests) - 1 LOOP
        one := requests->place;
        asked := jsonb_build_object('resource', one->'resource', 'amount', one->'amount', 'reason', one->'reason');
        SELECT a.* INTO earlier FROM _private_subject s
        JOIN _private_adjustment a ON (a.root, a.subject) = (s.root, s.subject)
        WHERE s.subject = one->>'subject' AND a.key = one->>'key';
        ordinal := place + 1;
        replayed := FOUND;
        IF NOT replayed THEN
            SELECT a.outcome, a.detail INTO outcome, detail FROM _private_adjust_one(one, moment) a;
            INSERT INTO _private_adjustment (root, subject, key, request, outcome, detail, created_at)
            SELECT s.root, s.subject, one->>'key', asked, adjust.outcome, adjust.detail, moment
            FROM _private_subject s WHERE s.subject = one->>'subject' AND one->>'key' IS NOT NULL
            ON CONFLICT DO NOTHING;
            IF NOT FOUND AND one->>'key' IS NOT NULL THEN
                RAISE EXCEPTION 'a key was answered by another transaction, whom the lock did not stop' USING ERRCODE = 'unique_violation';
            END IF;
        ELSIF earlier.request = asked THEN
            outcome := earlier.outcome;
            detail := earlier.detail;
        ELSE
            outcome := 'conflict';
            detail := _private_differs(earlier.request, asked);
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION earmark.adjust IS
'Corrects committed use, in the current period, of a subject and all above him: many requests at once, decided in order, each at every level or at none.
requests: [{subject, resource, amount (added to the use; below 0: taken away), reason, actor, key?}].
outcome: adjusted; denied (detail.short: with whom, and the `lowest` or `highest` amount that would do: never below zero, nor below what refunds may yet give back);
or conflict (the key was used for another adjustment; detail.differs). detail.levels: the figures of each holder after it. Use may come to exceed the quota: over_by.
replayed: the answer stored under the key. Errors: QT001, QT002, QT004, QT005 (services only). Locks the subjects'' trees; safe to retry with a key.';
