CREATE OR REPLACE FUNCTION earmark.images_removed(images uuid[])
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
BEGIN
    PERFORM _private_authorize(NULL);
    UPDATE _private_image i
    SET remove_objects_at = CASE
        WHEN i.state = 'completed' THEN NULL
        WHEN i.remove_objects_at > _private_now() THEN i.remove_objects_at  -- another sweeper was quicker: both looked once
        WHEN i.remove_objects_at < i.upload_expires_at THEN i.upload_expires_at + interval '1 minute'
        -- What began to arrive while the URL was good may take its time.
        WHEN i.remove_objects_at < i.upload_expires_at + interval '1 hour' THEN i.upload_expires_at + interval '1 hour' END
    -- An image that was deleted since it was listed has all its objects still.
    WHERE i.image = ANY (images) AND i.due_at IS NULL AND (i.state = 'completed' OR i.removal_began_at IS NOT NULL);
END $$;
COMMENT ON FUNCTION earmark.images_removed IS
    'Notes that the objects were removed; they are looked for once more when the upload URL has expired, and an hour after that, when all that had begun by then has arrived.';
