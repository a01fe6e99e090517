CREATE OR REPLACE FUNCTION earmark.adopt(requests jsonb, key text, reason text, actor text, dry_run boolean DEFAULT false)
RETURNS TABLE (ordinal int, outcome text, detail jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    known jsonb;
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
        -- What was adopted before stays as it has become since.
        SELECT coalesce(jsonb_object_agg(r.ordinality, a.request), '{}') INTO known
        FROM jsonb_array_elements(requests) WITH ORDINALITY r
        JOIN _private_subject s ON s.subject = r.value->>'subject'
        JOIN _private_adjustment a ON (a.root, a.subject, a.key) = (s.root, s.subject, format('%s/%s', adopt.key, r.value->>'resource'));
        PERFORM configure_subject(r.value->>'subject', r.value->>'plan',
            CASE WHEN r.value ? 'quota' THEN jsonb_build_object(r.value->>'resource', r.value->'quota') ELSE '{}' END, actor => adopt.actor)
        FROM jsonb_array_elements(requests) WITH ORDINALITY r
        WHERE (r.value ? 'plan' OR r.value ? 'quota') AND NOT known ? r.ordinality::text;

        WITH asked AS MATERIALIZED (
            SELECT r.ordinality::int AS ordinal, r.value->>'subject' AS subject, format('%s/%s', adopt.key, r.value->>'resource') AS key,
                jsonb_build_object('resource', r.value->'resource', 'amount', r.value->'used', 'reason', adopt.reason) AS request,
                r.value->'used' = '0' AS is_zero, known->r.ordinality::text AS earlier,
                row_number() OVER (PARTITION BY r.value->'used' = '0' ORDER BY r.ordinality)::int AS place
            FROM jsonb_array_elements(requests) WITH ORDINALITY r
        ), adjusted AS (
            SELECT a.* FROM adjust((
                SELECT coalesce(jsonb_agg(q.request || jsonb_build_object('subject', q.subject, 'actor', adopt.actor, 'key', q.key)
                    ORDER BY q.ordinal), '[]')
                FROM asked q WHERE NOT q.is_zero)) a
        ), remembered AS (
            -- Nothing to adjust, but to be known again.
            INSERT INTO _private_adjustment (root, subject, key, request, outcome, detail, created_at)
            SELECT s.root, s.subject, q.key, q.request, 'adjusted', '{}', _private_now()
            FROM asked q JOIN _private_subject s ON s.subject = q.subject
            WHERE q.is_zero AND q.earlier IS NULL
            ON CONFLICT DO NOTHING
        )
        SELECT jsonb_agg(jsonb_build_object('ordinal', q.ordinal, 'outcome', CASE
                WHEN a.outcome <> 'adjusted' THEN a.outcome
                WHEN q.earlier IS NULL THEN CASE WHEN q.is_zero THEN 'nothing' ELSE 'adopted' END
                WHEN q.earlier <> q.request THEN 'conflict'
                ELSE 'already_adopted' END,
            'detail', coalesce(a.detail, CASE WHEN q.earlier <> q.request THEN _private_differs(q.earlier, q.request) END, '{}')) ORDER BY q.ordinal)
        INTO answers
        FROM asked q LEFT JOIN adjusted a ON a.ordinal = q.place AND NOT q.is_zero;

        PERFORM _private_raise('QT004', format('The plan of subject %s does not count %s.', r.value->'subject', r.value->>'resource'),
            jsonb_build_object('subject', r.value->>'subject', 'resource', r.value->>'resource'))
        FROM jsonb_array_elements(requests) WITH ORDINALITY r
        JOIN _private_subject s ON s.subject = r.value->>'subject'
        WHERE NOT known ? r.ordinality::text
            AND NOT EXISTS (SELECT FROM _private_plan_quota q WHERE (q.plan, q.resource) = (s.plan, r.value->>'resource'));
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
requests: [{subject, resource, used (from 0), plan?, quota? (-1: unlimited)}]; key names the whole import: under it each (subject, resource) is adopted once,
with its plan and quota: a repeat leaves what was configured since.
outcome: adopted; already_adopted (under this key, the same amount); nothing (used is 0, and was not adopted before); conflict (under this key another amount; detail.differs) or denied (64 bits
would not hold it): where one of these is, nothing at all was done, and the others say what they would have become. So they do with dry_run. Use may exceed the quota.
Errors: QT001, QT002, QT003, QT004, QT005 (services only). Locks the subjects'' trees; safe to repeat.';
