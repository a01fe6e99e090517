-- An upload in parts keeps their size, so that it can be resumed after the setting has changed.
ALTER TABLE earmark._private_image ADD COLUMN part_bytes bigint;
COMMENT ON COLUMN earmark._private_image.part_bytes IS
    'Size of the parts of upload_id, but for the last; NULL where the file comes whole, or where that began before this was kept';
DROP FUNCTION IF EXISTS earmark.image_in_parts(uuid, text);
