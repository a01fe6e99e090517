-- A change of an image is numbered without writing to its subject: the images themselves know the newest number, and the
-- tree's lock, which whoever changes one holds, keeps numbers in the order of commits.
CREATE OR REPLACE FUNCTION earmark._private_number_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = earmark, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' OR (OLD.state, OLD.attempt, OLD.cause, OLD.reason, OLD.content_type, OLD.metadata, OLD.outputs)
        IS DISTINCT FROM (NEW.state, NEW.attempt, NEW.cause, NEW.reason, NEW.content_type, NEW.metadata, NEW.outputs)
    THEN
        NEW.change := 1 + _private_newest_change(NEW.root, NEW.subject);
    END IF;
    RETURN NEW;
END $$;
COMMENT ON COLUMN earmark._private_subject.changes IS
    'Number of the latest change of his plan and quotas, in one line with those of his images; the journal has its own number, entries';
-- Both take and answer the image's row now, which is at hand.
DROP FUNCTION IF EXISTS earmark._private_image_document(uuid);
DROP FUNCTION IF EXISTS earmark._private_move_image(earmark._private_image, text, float8, float8, int, text);
