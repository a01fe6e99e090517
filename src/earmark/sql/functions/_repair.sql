CREATE OR REPLACE FUNCTION earmark._private_repair(chosen text, why text, who text)
RETURNS TABLE (subject text, resource text, period_start timestamptz, reservation uuid, item text, seq bigint,
    committed_before bigint, held_before bigint, committed_after bigint, held_after bigint, reason text)
LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    drifted text[];
    name text;
    figure _private_figure;
BEGIN
    PERFORM _private_check_words(why, who, needed => true);
    drifted := ARRAY(SELECT DISTINCT v.subject FROM verify(chosen) v JOIN _private_subject s ON s.subject = v.subject ORDER BY 1);
    PERFORM _private_lock_subjects(drifted);
    FOREACH name IN ARRAY drifted LOOP
        RETURN QUERY
        SELECT name, r.resource, nullif(r.period_start, '-infinity'), NULL::uuid, NULL::text, r.seq,
            coalesce(b.committed, 0), coalesce(b.held, 0), coalesce(b.committed, 0), coalesce(b.held, 0), r.story
        FROM _private_recount_entries(name, why, who) r
        LEFT JOIN _private_balance b ON (b.root, b.subject, b.resource, b.period_start) = (r.root, name, r.resource, r.period_start);
        -- Read again, now that the trees are locked: what was found may have been put right by somebody else.
        FOR figure IN
            SELECT f.* FROM _private_figures(name) f
            WHERE (f.committed, f.held) <> (f.holds_committed, f.holds_held)
                OR (f.committed, f.held) <> (f.journal_committed, f.journal_held)
            ORDER BY f.resource, f.period_start
        LOOP
            RETURN QUERY
            SELECT name, figure.resource, nullif(figure.period_start, '-infinity'), NULL::uuid, NULL::text, r.seq,
                figure.committed, figure.held, r.committed_after, r.held_after, r.story
            FROM _private_repair_balance(figure, why, who) r;
        END LOOP;
        RETURN QUERY
        SELECT name, r.resource, nullif(r.period_start, '-infinity'), r.reservation, r.item, r.seq,
            coalesce(b.committed, 0), coalesce(b.held, 0), coalesce(b.committed, 0), coalesce(b.held, 0), r.story
        FROM _private_explain_holds(name, why, who) r
        LEFT JOIN _private_balance b ON (b.root, b.subject, b.resource, b.period_start) = (r.root, name, r.resource, r.period_start);
    END LOOP;
    PERFORM _private_retry_aside(drifted);
END $$;
COMMENT ON FUNCTION earmark._private_repair IS 'The work of repair.';
