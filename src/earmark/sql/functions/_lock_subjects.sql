CREATE OR REPLACE FUNCTION earmark._private_lock_subjects(names text[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    default_plan text;
    newcomers text[];
BEGIN
    SELECT array_agg(DISTINCT name ORDER BY name) INTO newcomers
    FROM unnest(names) AS name
    WHERE NOT EXISTS (SELECT FROM _private_subject s WHERE s.subject = name);

    IF newcomers IS NOT NULL THEN
        SELECT value INTO default_plan FROM _private_setting WHERE name = 'default_plan';
        IF default_plan IS NULL THEN
            PERFORM _private_raise('QT002',
                format('Subject %s is unknown and no default plan is set: register it, or set a default plan.',
                    to_jsonb(newcomers[1])),
                jsonb_build_object('subject', newcomers[1]));
        END IF;
        INSERT INTO _private_subject (root, subject, plan)
        SELECT name, name, default_plan FROM unnest(newcomers) AS name ORDER BY name
        ON CONFLICT DO NOTHING;
    END IF;

    PERFORM FROM _private_subject s
    WHERE s.subject = ANY (names)
    ORDER BY s.root, s.subject
    FOR NO KEY UPDATE;
END $$;
COMMENT ON FUNCTION earmark._private_lock_subjects IS
    'Locks the ledgers of these subjects in the one order (root, subject), registering newcomers on the default plan; QT002 where there is none.';
