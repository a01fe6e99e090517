CREATE OR REPLACE FUNCTION earmark.configure_subject(
    subject text, plan text DEFAULT NULL, quotas jsonb DEFAULT '{}', anchor timestamptz DEFAULT NULL, parent text DEFAULT NULL,
    actor text DEFAULT NULL
) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    chosen text := plan;
    was jsonb;
    owner record;
BEGIN
    PERFORM _private_authorize(NULL);
    IF coalesce(length(configure_subject.subject), 0) NOT BETWEEN 1 AND 255 OR octet_length(configure_subject.subject) > 800 THEN
        PERFORM _private_raise('QT001', 'subject must be a text of 1 to 255 characters, at most 800 bytes.', '{"field": "subject"}');
    END IF;
    IF anchor NOT BETWEEN '0002-01-01' AND '9998-12-31' THEN
        PERFORM _private_raise('QT001', 'anchor must be a moment from the year 2 to the year 9998.', '{"field": "anchor"}');
    END IF;
    PERFORM _private_check_words(NULL, actor);
    IF chosen IS NOT NULL AND NOT EXISTS (SELECT FROM _private_plan p WHERE p.plan = chosen) THEN
        PERFORM _private_raise('QT003', format('There is no plan %s.', to_jsonb(chosen)), jsonb_build_object('plan', chosen));
    END IF;
    IF parent IS NOT NULL AND NOT EXISTS (SELECT FROM _private_subject p WHERE p.subject = parent) THEN
        PERFORM _private_raise('QT001', format('There is no subject %s that could be the parent: register it first.', to_jsonb(parent)),
            jsonb_build_object('field', 'parent', 'parent', parent));
    END IF;
    IF chosen IS NOT NULL THEN
        INSERT INTO _private_subject (root, subject, ancestors, plan)
        VALUES (configure_subject.subject, configure_subject.subject, ARRAY[configure_subject.subject], chosen)
        ON CONFLICT DO NOTHING;
    END IF;
    -- With a parent too he is registered as a root of his own and then moved, so that locks are taken in the one order.
    PERFORM _private_lock_subjects(array_remove(ARRAY[configure_subject.subject, parent], NULL));
    was := _private_subject_configuration(configure_subject.subject);
    IF parent IS NOT NULL THEN
        PERFORM _private_set_parent(configure_subject.subject, parent);
    END IF;
    UPDATE _private_subject s
    SET plan = coalesce(chosen, s.plan), anchor = coalesce(configure_subject.anchor, s.anchor), changes = 1 + _private_newest_change(s.root, s.subject)
    WHERE s.subject = configure_subject.subject
    RETURNING s.root, s.plan INTO owner;

    PERFORM _private_raise('QT004', format('The plan %s does not count %s.', owner.plan, q.key),
        jsonb_build_object('plan', owner.plan, 'resource', q.key))
    FROM jsonb_each(quotas) q
    WHERE NOT EXISTS (SELECT FROM _private_plan_quota p WHERE (p.plan, p.resource) = (owner.plan, q.key));
    DELETE FROM _private_subject_quota o
    USING jsonb_each(quotas) q WHERE (o.root, o.subject, o.resource) = (owner.root, configure_subject.subject, q.key);
    INSERT INTO _private_subject_quota (root, subject, resource, quota)
    SELECT owner.root, configure_subject.subject, q.key, nullif(_private_check_amount(q.value, q.key, -1), -1)
    FROM jsonb_each(quotas) q WHERE q.value <> 'null';
    PERFORM _private_record_configuration(
        configure_subject.subject, NULL, actor, was, _private_subject_configuration(configure_subject.subject));
END $$;
COMMENT ON FUNCTION earmark.configure_subject IS
'Registers or changes a subject: his plan, quotas of his own ({resource: n}; -1: unlimited, null: the plan''s again), the anchor of his periods,
his parent, at most 8 levels in all: within the same tree at any time, into another tree only while neither he nor anybody below him has anything in the books.
Takes effect at the next grant; what is held or committed stays where it is. explain tells what was changed, when and by whom (actor). Errors: QT001, QT002, QT003, QT004, QT005. Locks the trees of both.';
