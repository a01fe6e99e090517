CREATE OR REPLACE FUNCTION earmark.configure_plan(plan text, features jsonb DEFAULT NULL, quotas jsonb DEFAULT '{}', actor text DEFAULT NULL)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    resource record;
    was jsonb;
BEGIN
    PERFORM _private_authorize(NULL);
    IF coalesce(configure_plan.plan, '') !~ '^[a-z0-9][a-z0-9_-]{0,62}$' THEN
        PERFORM _private_raise('QT001', 'A plan is named by 1 to 63 lower-case letters, digits, - and _.', '{"field": "plan"}');
    END IF;
    IF jsonb_typeof(configure_plan.features) <> 'object' OR jsonb_typeof(quotas) <> 'object' THEN
        PERFORM _private_raise('QT001', 'features and quotas must be JSON objects.', '{"field": "features"}');
    END IF;
    IF configure_plan.features->'max_bulk_upload' <> 'null' THEN
        PERFORM _private_check_amount(configure_plan.features->'max_bulk_upload', 'max_bulk_upload', -1);
    END IF;
    PERFORM _private_check_words(NULL, actor);
    PERFORM FROM _private_plan p WHERE p.plan = configure_plan.plan FOR UPDATE;
    was := _private_plan_configuration(configure_plan.plan);
    INSERT INTO _private_plan (plan, features) VALUES (configure_plan.plan, coalesce(configure_plan.features, '{}'))
    ON CONFLICT (plan) DO UPDATE
    SET features = coalesce(configure_plan.features, _private_plan.features), changes = _private_plan.changes + 1;
    FOR resource IN SELECT * FROM jsonb_each(quotas) LOOP
        IF resource.key !~ '^[a-z][a-z0-9_]{0,62}$' OR coalesce(resource.value->>'period', 'lifetime') !~ '^(lifetime|P[1-9][0-9]{0,3}[DWM]|P[1-9][0-9]{0,2}Y)$'
            OR coalesce(jsonb_typeof(resource.value->'refundable'), 'null') NOT IN ('boolean', 'null') THEN
            PERFORM _private_raise('QT001',
                'A resource is named by lower-case letters, digits and _; its period is lifetime or one ISO 8601 unit such as P1D, P7D, P1M, P1Y, at most P999Y; refundable is true or false.',
                jsonb_build_object('field', resource.key));
        END IF;
        INSERT INTO _private_plan_quota (plan, resource, quota, period, refundable)
        VALUES (configure_plan.plan, resource.key, nullif(_private_check_amount(resource.value->'quota', resource.key, -1), -1),
            coalesce(resource.value->>'period', 'lifetime'), coalesce((resource.value->>'refundable')::boolean, false))
        ON CONFLICT (plan, resource) DO UPDATE
        SET quota = excluded.quota, period = excluded.period, refundable = excluded.refundable;
    END LOOP;
    PERFORM _private_record_configuration(NULL, configure_plan.plan, actor, was, _private_plan_configuration(configure_plan.plan));
END $$;
COMMENT ON FUNCTION earmark.configure_plan IS
'Creates or changes a plan. features: {max_bulk_upload? (files at once; -1: unlimited), …}, in place of those it had. quotas: {resource: {quota (-1: unlimited), period? (lifetime), refundable? (false)}}; resources not named stay. A change takes effect at the next grant; explain tells what it was, when and by whom (actor). Errors: QT001, QT005.';
