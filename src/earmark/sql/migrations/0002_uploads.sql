-- Images on their way through the upload flow. An image is one item of a reservation; its state follows its hold,
-- whoever settles it. Every transition takes the subject's lock first, like the ledger.

CREATE TABLE earmark._private_image (
    root text NOT NULL,
    image uuid NOT NULL,
    subject text NOT NULL,
    reservation uuid NOT NULL,
    item text NOT NULL,
    filename text NOT NULL,
    content_type text NOT NULL,
    size bigint NOT NULL CHECK (size > 0),
    key text NOT NULL,
    state text NOT NULL DEFAULT 'reserved' CHECK (state IN ('reserved', 'uploading', 'uploaded', 'processing',
        'completed', 'failed', 'rejected', 'cancelled', 'expired', 'deleted')),
    attempt int NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    cause text,
    reason text,
    metadata jsonb NOT NULL DEFAULT '{}',
    outputs jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    due_at timestamptz,
    upload_expires_at timestamptz NOT NULL,
    remove_objects_at timestamptz,
    PRIMARY KEY (root, image),
    UNIQUE (root, reservation, item),
    CHECK ((state IN ('reserved', 'uploading', 'uploaded', 'processing')) = (due_at IS NOT NULL))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX _private_image_id ON earmark._private_image (image);
CREATE INDEX _private_image_newest ON earmark._private_image (root, subject, image);
CREATE INDEX _private_image_due ON earmark._private_image (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX _private_image_removal ON earmark._private_image (remove_objects_at) WHERE remove_objects_at IS NOT NULL;
COMMENT ON COLUMN earmark._private_image.attempt IS 'Fencing number: only the worker that holds the latest one may finish or fail the image';
COMMENT ON COLUMN earmark._private_image.due_at IS 'When the stage is overdue; the hold lasts a little longer, so that evidence can be looked at first';
COMMENT ON COLUMN earmark._private_image.remove_objects_at IS
    'When its objects are to be removed from the store: at once when it was not accepted, and again after its upload URL has expired';

CREATE FUNCTION earmark._private_follow_holds() RETURNS trigger
LANGUAGE plpgsql SET search_path = earmark, pg_temp AS $$
BEGIN
    UPDATE _private_image i
    SET state = CASE NEW.cause WHEN 'validation_failed' THEN 'rejected' WHEN 'expired' THEN 'expired'
            WHEN 'upload_failed' THEN 'failed' WHEN 'processing_failed' THEN 'failed' ELSE 'cancelled' END,
        cause = NEW.cause, due_at = NULL, updated_at = NEW.settled_at, remove_objects_at = NEW.settled_at
    WHERE (i.root, i.reservation, i.item) = (NEW.root, NEW.reservation, NEW.item) AND i.due_at IS NOT NULL;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION earmark._private_follow_holds IS 'An open image whose hold was rolled back, by whatever call, ends in the same transaction';
CREATE TRIGGER images_follow AFTER UPDATE OF state ON earmark._private_hold
    FOR EACH ROW WHEN (NEW.followed AND NEW.level = 0 AND OLD.state = 'held' AND NEW.state = 'rolled_back')
    EXECUTE FUNCTION earmark._private_follow_holds();
