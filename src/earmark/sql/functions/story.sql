CREATE OR REPLACE FUNCTION earmark.story(about uuid, subject text DEFAULT NULL)
RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    image _private_image;
    target uuid;
    asked _private_reservation;
    owner text;
BEGIN
    PERFORM _private_authorize(story.subject);
    SELECT * INTO image FROM _private_image i WHERE i.image = story.about;
    target := coalesce(image.reservation, story.about);
    SELECT * INTO asked FROM _private_reservation p WHERE p.reservation = target;
    owner := coalesce(asked.subject, image.subject);
    IF owner IS NULL OR owner <> coalesce(story.subject, owner) THEN
        RETURN NULL;
    END IF;
    RETURN jsonb_build_object(
        'reservation', target, 'subject', owner, 'key', asked.key, 'outcome', coalesce(asked.outcome, 'granted'),
        'short', coalesce(asked.detail->'short', '[]'), 'created_at', coalesce(asked.created_at, image.created_at),
        'holds', (SELECT coalesce(jsonb_agg(to_jsonb(h) - 'subject' - 'key' - 'created_at'), '[]')
            FROM reservation(target, owner) h WHERE h.item = coalesce(image.item, h.item)),
        'images', (SELECT coalesce(jsonb_agg(to_jsonb(i) ORDER BY i.image), '[]') FROM (
            SELECT f.image, f.item, f.filename, f.state, f.cause, f.reason, f.attempt, f.updated_at FROM _private_image f
            WHERE f.root = coalesce(asked.root, image.root) AND f.reservation = target AND f.item = coalesce(image.item, f.item)) i),
        'entries', (SELECT coalesce(jsonb_agg(to_jsonb(e) ORDER BY e.seq), '[]') FROM (
            SELECT j.seq, j.at, j.kind, j.resource, nullif(j.period_start, '-infinity') AS period_start, j.reservation, j.item, j.committed,
                j.held, j.cause, j.actor, j.reason
            FROM _private_journal j
            WHERE j.reservation = target AND j.subject = owner AND j.item = coalesce(image.item, j.item)) e));
END $$;
COMMENT ON FUNCTION earmark.story IS
'The story of a reservation, or of the one item of it that an image is: what was asked for and decided, its holds (as reservation), its images, and its entries
in the owner''s journal, oldest first. NULL where there is none or, with a subject, it is not his. What was pruned is missing from it. Errors: QT005.';
