CREATE OR REPLACE FUNCTION earmark._private_set_parent(subject text, parent text)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    deepest CONSTANT int := 8;
    name text := subject;
    above _private_subject;
    here _private_subject;
    refused text;
BEGIN
    SELECT s.* INTO here FROM _private_subject s WHERE s.subject = name;
    SELECT s.* INTO above FROM _private_subject s WHERE s.subject = _private_set_parent.parent;
    IF here.ancestors[2] = above.subject THEN
        RETURN;
    ELSIF name = ANY (above.ancestors) THEN
        refused := format('%s cannot be the parent of %s: he is that himself, or below him.', to_jsonb(above.subject), to_jsonb(name));
    ELSIF cardinality(above.ancestors) + (
        SELECT max(array_position(d.ancestors, name)) FROM _private_subject d WHERE d.root = here.root AND name = ANY (d.ancestors)
    ) > deepest THEN
        refused := format('A tree of subjects has at most %s levels.', deepest);
    ELSIF here.root <> above.root AND EXISTS (
        SELECT FROM _private_subject d
        WHERE d.root = here.root AND name = ANY (d.ancestors) AND (d.entries > 0
            OR EXISTS (SELECT FROM _private_reservation r WHERE (r.root, r.subject) = (d.root, d.subject) AND r.key IS NOT NULL)
            OR EXISTS (SELECT FROM _private_adjustment a WHERE (a.root, a.subject) = (d.root, d.subject) AND a.request->'amount' <> '0'))
    ) THEN
        refused := format('%s, or somebody below him, has something in the books already, and they stay in the tree they were begun in.',
            to_jsonb(name));
    END IF;
    IF refused IS NOT NULL THEN
        PERFORM _private_raise('QT001', refused,
            jsonb_build_object('field', 'parent', 'subject', name, 'parent', above.subject, 'root', here.root));
    END IF;
    -- What calls over HTTP were answered is no part of the books, nor that nothing was adopted; both are found under the new root.
    UPDATE _private_answer a
    SET root = above.root
    FROM _private_subject d
    WHERE d.root = here.root AND name = ANY (d.ancestors) AND (a.root, a.subject) = (d.root, d.subject) AND above.root <> here.root;
    UPDATE _private_adjustment a
    SET root = above.root
    FROM _private_subject d
    WHERE d.root = here.root AND name = ANY (d.ancestors) AND (a.root, a.subject) = (d.root, d.subject) AND above.root <> here.root;
    UPDATE _private_subject d
    SET root = above.root, ancestors = d.ancestors[:array_position(d.ancestors, name)] || above.ancestors
    WHERE d.root = here.root AND name = ANY (d.ancestors);
END $$;
COMMENT ON FUNCTION earmark._private_set_parent IS
'Puts a subject, with those below him, under a parent. Into another tree only while none of them has anything in the books, which lead with the root;
within his tree at any time: each hold names its holders, so what was taken under the old parent is settled there. Both trees are locked by the caller.';
