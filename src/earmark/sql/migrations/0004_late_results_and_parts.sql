-- A success after expiry counts while the image's objects are still there; large files come in parts.

ALTER TABLE earmark._private_image
    ADD COLUMN removal_began_at timestamptz,
    ADD COLUMN upload_id text;
COMMENT ON COLUMN earmark._private_image.removal_began_at IS 'When its objects were first about to be removed: from then on it cannot be completed any more';
COMMENT ON COLUMN earmark._private_image.upload_id IS 'The store''s name of the upload in parts, where the file comes in parts';

UPDATE earmark._private_image SET removal_began_at = updated_at WHERE due_at IS NULL AND state <> 'completed';
