-- A success after expiry counts while the image's objects are still there; large files come in parts; what a shutdown
-- interrupts is no failed attempt.

ALTER TABLE earmark._private_image
    ADD COLUMN removal_began_at timestamptz,
    ADD COLUMN upload_id text,
    ADD COLUMN interrupted int NOT NULL DEFAULT 0;
COMMENT ON COLUMN earmark._private_image.removal_began_at IS 'When its objects were first about to be removed: from then on it cannot be completed any more';
COMMENT ON COLUMN earmark._private_image.upload_id IS 'The store''s name of the upload in parts, where the file comes in parts';
COMMENT ON COLUMN earmark._private_image.interrupted IS 'How many of its attempts ended because their worker was shut down or the store was away; they do not count as tries';

DROP FUNCTION IF EXISTS earmark.image_wait(uuid, int, text, float8, float8, boolean);

UPDATE earmark._private_image SET removal_began_at = updated_at WHERE due_at IS NULL AND state <> 'completed';
