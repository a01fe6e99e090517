CREATE OR REPLACE FUNCTION earmark._private_lock_subjects(names text[])
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    default_plan text;
    newcomers text[];
    roots text[];
    nested boolean;
    locked bigint;
BEGIN
    FOR attempt IN 1 .. 100 LOOP
        SELECT array_agg(DISTINCT coalesce(s.root, name)), array_agg(name) FILTER (WHERE s.root IS NULL), bool_or(s.root <> name)
        INTO roots, newcomers, nested
        FROM unnest(names) name LEFT JOIN _private_subject s ON s.subject = name;
        -- Newcomers come first: registered while other trees are locked, they would be locked out of order.
        IF newcomers IS NOT NULL THEN
            -- Bytes, as three names of the longest kind are the key of one index.
            PERFORM _private_raise('QT001', 'subject must be a text of 1 to 255 characters, at most 800 bytes.', '{"field": "subject"}')
            FROM unnest(newcomers) name WHERE (length(name) BETWEEN 1 AND 255 AND octet_length(name) <= 800) IS NOT TRUE;
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

        PERFORM FROM unnest(roots) r (root)
        JOIN _private_subject t ON (t.root, t.subject) = (r.root, r.root)
        ORDER BY t.root
        FOR NO KEY UPDATE OF t;
        GET DIAGNOSTICS locked = ROW_COUNT;
        -- Who was put into another tree while its lock was waited for: once more, for the tree he is in now. A root that was moved
        -- is missing from what was locked; those below a root are looked at again.
        IF locked = coalesce(cardinality(roots), 0) AND (nested IS NOT TRUE OR NOT EXISTS (
            SELECT FROM unnest(names) name JOIN _private_subject s ON s.subject = name
            LEFT JOIN unnest(roots) r (root) USING (root) WHERE r.root IS NULL)) THEN
            RETURN;
        END IF;
    END LOOP;
    RAISE EXCEPTION 'the tree of % cannot be locked: the row of its root is missing', names USING ERRCODE = 'data_corrupted';
END $$;
COMMENT ON FUNCTION earmark._private_lock_subjects IS
    'Locks the trees of these subjects in the one order, by root, registering newcomers on the default plan; QT002 where there is none.';
