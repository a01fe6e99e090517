CREATE OR REPLACE FUNCTION earmark.images_removed(images uuid[])
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
BEGIN
    PERFORM _private_authorize(NULL);
    UPDATE _private_image i
    SET remove_objects_at = CASE WHEN i.state <> 'completed' AND i.upload_expires_at > i.remove_objects_at THEN i.upload_expires_at + interval '1 minute' END
    -- An image that was deleted since it was listed has all its objects still.
    WHERE i.image = ANY (images) AND i.due_at IS NULL AND (i.state = 'completed' OR i.removal_began_at IS NOT NULL);
END $$;
COMMENT ON FUNCTION earmark.images_removed IS
    'Notes that the objects were removed; while the upload URL is still good they are looked for once more after it has expired.';
