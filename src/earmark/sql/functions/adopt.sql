CREATE OR REPLACE FUNCTION earmark.adopt(requests jsonb, key text, reason text, actor text, dry_run boolean DEFAULT false)
RETURNS TABLE (ordinal int, outcome text, detail jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    answers jsonb;
BEGIN
    PERFORM _private_authorize(NULL);
    PERFORM _private_check_adopt(requests, adopt.key);
    PERFORM _private_check_words(adopt.reason, adopt.actor, needed => true);
    BEGIN
        INSERT INTO _private_subject (root, subject, ancestors, plan)
        SELECT n.subject, n.subject, ARRAY[n.subject], n.plan
        FROM (
            SELECT r->>'subject' AS subject, min(r->>'plan') AS plan FROM jsonb_array_elements(requests) r GROUP BY 1
        ) n
        WHERE n.plan IS NOT NULL AND NOT EXISTS (SELECT FROM _private_subject s WHERE s.subject = n.subject)
        ORDER BY n.subject
        ON CONFLICT DO NOTHING;
        PERFORM _private_lock_subjects(ARRAY(SELECT DISTINCT r->>'subject' FROM jsonb_array_elements(requests) r));
        PERFORM configure_subject(r->>'subject', r->>'plan',
            CASE WHEN r ? 'quota' THEN jsonb_build_object(r->>'resource', r->'quota') ELSE '{}' END, actor => adopt.actor)
        FROM jsonb_array_elements(requests) r WHERE r ? 'plan' OR r ? 'quota';

        WITH asked AS MATERIALIZED (
            SELECT r.ordinality::int AS ordinal, r.value AS request, r.value->>'subject' AS subject, r.value->>'resource' AS resource,
                row_number() OVER (PARTITION BY r.value->'used' = '0' ORDER BY r.ordinality)::int AS place
            FROM jsonb_array_elements(requests) WITH ORDINALITY r
        ), adjusted AS (
            SELECT a.* FROM adjust((
                SELECT coalesce(jsonb_agg(jsonb_build_object('subject', q.subject, 'resource', q.resource, 'amount', q.request->'used',
                    'reason', adopt.reason, 'actor', adopt.actor, 'key', format('%s/%s', adopt.key, q.resource)) ORDER BY q.ordinal), '[]')
                FROM asked q WHERE q.request->'used' <> '0')) a
        )
        SELECT jsonb_agg(jsonb_build_object('ordinal', q.ordinal, 'detail', coalesce(a.detail, '{}'), 'outcome', CASE
            WHEN q.request->'used' = '0' THEN 'nothing'
            WHEN a.outcome = 'adjusted' THEN CASE WHEN a.replayed THEN 'already_adopted' ELSE 'adopted' END
            ELSE a.outcome END) ORDER BY q.ordinal)
        INTO answers
        FROM asked q LEFT JOIN adjusted a ON a.ordinal = q.place AND q.request->'used' <> '0';

        PERFORM _private_raise('QT004', format('The plan of subject %s does not count %s.', r->'subject', r->>'resource'),
            jsonb_build_object('subject', r->>'subject', 'resource', r->>'resource'))
        FROM jsonb_array_elements(requests) r
        JOIN _private_subject s ON s.subject = r->>'subject'
        WHERE NOT EXISTS (SELECT FROM _private_plan_quota q WHERE (q.plan, q.resource) = (s.plan, r->>'resource'));
        IF adopt.dry_run OR answers @? '$[*] ? (@.outcome == "conflict" || @.outcome == "denied")' THEN
            RAISE triggered_action_exception;
        END IF;
    EXCEPTION WHEN triggered_action_exception THEN
        NULL;  -- All of it is undone; what each would have become is still known.
    END;
    RETURN QUERY SELECT a.ordinal, a.outcome, a.detail FROM jsonb_to_recordset(answers) a (ordinal int, outcome text, detail jsonb) ORDER BY 1;
END $$;
COMMENT ON FUNCTION earmark.adopt IS
'Takes over what another system has counted: registers subjects, sets plans and quotas of their own, and adds their use in the current period as adjustments, all or nothing.
requests: [{subject, resource, used (from 0), plan?, quota? (-1: unlimited)}]; key names the whole import: under it each (subject, resource) is adopted once.
outcome: adopted; already_adopted (under this key, the same amount); nothing (used is 0); conflict (under this key another amount; detail.differs) or denied (64 bits
would not hold it): where one of these is, nothing at all was done, and the others say what they would have become. So they do with dry_run. Use may exceed the quota.
Errors: QT001, QT002, QT003, QT004, QT005 (services only). Locks the subjects'' trees; safe to repeat.';
