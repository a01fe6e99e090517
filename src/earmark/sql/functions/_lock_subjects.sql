CREATE OR REPLACE FUNCTION earmark._private_lock_subjects(names text[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    default_plan text;
    newcomers text[];
BEGIN
    -- Newcomers come first: registered while other trees are locked, they would be locked out of order.
    SELECT array_agg(DISTINCT name ORDER BY name) INTO newcomers
    FROM unnest(names) AS name
    WHERE NOT EXISTS (SELECT FROM _private_subject s WHERE s.subject = name);
    IF newcomers IS NOT NULL THEN
        SELECT value INTO default_plan FROM _private_setting WHERE name = 'default_plan';
        IF default_plan IS NULL THEN
            PERFORM _private_raise('QT002',
                format('Subject %s is unknown and no default plan is set: register it, or set a default plan.', to_jsonb(newcomers[1])),
                jsonb_build_object('subject', newcomers[1]));
        END IF;
        INSERT INTO _private_subject (root, subject, ancestors, plan)
        SELECT name, name, ARRAY[name], default_plan FROM unnest(newcomers) AS name ORDER BY name
        ON CONFLICT DO NOTHING;
    END IF;

    PERFORM FROM (SELECT DISTINCT s.root FROM unnest(names) name JOIN _private_subject s ON s.subject = name) s
    JOIN _private_subject t ON (t.root, t.subject) = (s.root, s.root)
    ORDER BY t.root
    FOR NO KEY UPDATE OF t;
END $$;
COMMENT ON FUNCTION earmark._private_lock_subjects IS
    'Locks the trees of these subjects in the one order, by root, registering newcomers on the default plan; QT002 where there is none.';
