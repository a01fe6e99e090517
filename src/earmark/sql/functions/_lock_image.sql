CREATE OR REPLACE FUNCTION earmark._private_lock_image(image uuid, subject text)
RETURNS earmark._private_image LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    found _private_image;
BEGIN
    -- Whoever has an image stays in the tree he is in: he has something in its books.
    PERFORM FROM _private_image i JOIN _private_subject t ON (t.root, t.subject) = (i.root, i.root)
    WHERE i.image = _private_lock_image.image AND i.subject = coalesce(_private_lock_image.subject, i.subject)
    FOR NO KEY UPDATE OF t;
    SELECT i.* INTO found FROM _private_image i
    WHERE i.image = _private_lock_image.image AND i.subject = coalesce(_private_lock_image.subject, i.subject);
    RETURN found;
END $$;
COMMENT ON FUNCTION earmark._private_lock_image IS
    'Locks the tree of the image''s subject and reads the image after that; with a subject, only his own. NULLs where there is none.';
