CREATE OR REPLACE FUNCTION earmark.images_reserve(
    subject text, files jsonb, ttl_seconds float8, evidence_seconds float8, key text DEFAULT NULL, actor text DEFAULT NULL,
    grace_seconds float8 DEFAULT 0, only_replay boolean DEFAULT false
) RETURNS TABLE (outcome text, reservation uuid, replayed boolean, detail jsonb, images jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    bulk_limit bigint;
    hold_seconds float8 := ttl_seconds + grace_seconds + evidence_seconds;
    earlier jsonb;
    asked jsonb;
    answer record;
    moment timestamptz;
BEGIN
    PERFORM _private_authorize(images_reserve.subject);
    PERFORM _private_lock_subjects(ARRAY[images_reserve.subject]);
    -- What was answered under the key before is answered again, whatever the limits and the settings are by now.
    SELECT nullif((p.features->>'max_bulk_upload')::bigint, -1), r.request INTO bulk_limit, earlier
    FROM _private_subject s
    JOIN _private_plan p USING (plan)
    LEFT JOIN _private_reservation r ON (r.root, r.subject, r.key) = (s.root, s.subject, images_reserve.key)
    WHERE s.subject = images_reserve.subject;
    IF earlier IS NULL AND only_replay THEN
        RETURN QUERY SELECT 'new', NULL::uuid, false, NULL::jsonb, NULL::jsonb;
        RETURN;
    END IF;
    IF earlier IS NULL AND jsonb_array_length(files) > bulk_limit THEN
        RETURN QUERY SELECT 'bulk_limit', NULL::uuid, false,
            jsonb_build_object('limit', bulk_limit, 'count', jsonb_array_length(files)), NULL::jsonb;
        RETURN;
    END IF;

    IF (SELECT bool_and(jsonb_path_query_array(earlier->'note', declared) = jsonb_path_query_array(files, declared))
        FROM unnest('{$[*].filename,$[*].content_type,$[*].size,$[*].retry_of}'::jsonpath[]) declared) THEN
        asked := earlier;
    ELSE
        asked := jsonb_build_object('note', files, 'ttl_seconds', hold_seconds,
            'items', (SELECT jsonb_object_agg(f.ordinality,
                    coalesce(f.value->'resources', '{}') || jsonb_build_object('images', 1, 'storage_bytes', f.value->'size'))
                FROM jsonb_array_elements(files) WITH ORDINALITY f));
    END IF;
    SELECT r.* INTO answer FROM reserve(jsonb_build_array(jsonb_strip_nulls(asked || jsonb_build_object(
        'subject', images_reserve.subject, 'key', images_reserve.key, 'actor', images_reserve.actor, 'followed', true)))) r;

    IF answer.outcome = 'granted' AND NOT answer.replayed THEN
        moment := answer.expires_at - hold_seconds * interval '1 second';
        INSERT INTO _private_image (root, image, subject, reservation, item, filename, content_type, size, key,
            created_at, updated_at, due_at, upload_expires_at)
        SELECT n.root, n.id, images_reserve.subject, answer.reservation, n.item, n.file->>'filename', n.file->>'content_type',
            (n.file->>'size')::bigint, 'images/' || n.id || '/original', moment, moment,
            moment + (ttl_seconds + grace_seconds) * interval '1 second', moment + ttl_seconds * interval '1 second'
        FROM (
            SELECT s.root, _private_new_id(s.root) AS id, f.ordinality::text AS item, f.value AS file
            FROM jsonb_array_elements(files) WITH ORDINALITY f
            JOIN _private_subject s ON s.subject = images_reserve.subject
        ) n;
    END IF;
    RETURN QUERY SELECT answer.outcome, answer.reservation, answer.replayed, answer.detail,
        (SELECT jsonb_agg(_private_image_document(i) ORDER BY i.item::int) FROM _private_image i
            WHERE i.reservation = answer.reservation);
END $$;
COMMENT ON FUNCTION earmark.images_reserve IS
'Takes quota for a number of files, one image and its bytes each, and opens an image for each.
files: [{filename, content_type, size, resources, retry_of}], retry_of being the image that this one is instead of, and resources what processing one may use besides, such as {"credits": 5}. outcome: granted, denied, conflict (as reserve), bulk_limit (more files than the plan''s max_bulk_upload), or new (only_replay, and nothing was answered under the key).
ttl_seconds: how long the upload URLs are good; what began by then is waited for grace_seconds more, and the hold outlives that by evidence_seconds.
images: the open images in the order of files; again when replayed under the key. Errors: QT001, QT002, QT004, QT005.';
