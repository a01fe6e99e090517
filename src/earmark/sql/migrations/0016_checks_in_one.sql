-- What the busiest tables refuse is one compiled function each. PostgreSQL reads and plans the text of a CHECK anew in every
-- statement that writes to its table, and the WHEN of a trigger, too: half of what changing a hold took.

CREATE FUNCTION earmark._private_hold_is_sound(hold earmark._private_hold)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN hold.level >= 0
        AND hold.amount > 0
        AND hold.committed BETWEEN 0 AND hold.amount
        AND hold.state IN ('held', 'committed', 'refunded', 'rolled_back')
        AND hold.cause IN ('upload_failed', 'processing_failed', 'cancelled', 'validation_failed', 'expired', 'admin')
        AND (hold.state = 'held') = (hold.settled_at IS NULL)
        AND (hold.state = 'held') = (hold.settled_by IS NULL)
        AND (hold.state = 'rolled_back') = (hold.cause IS NOT NULL)
        AND (hold.state IN ('committed', 'refunded') OR hold.committed = 0);
END $$;
COMMENT ON FUNCTION earmark._private_hold_is_sound IS 'What the table of holds refuses to be otherwise; NULL, where there is no cause, passes as in any CHECK';

CREATE FUNCTION earmark._private_subject_is_sound(who earmark._private_subject)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN length(who.subject) BETWEEN 1 AND 255
        AND who.ancestors[1] = who.subject
        AND who.ancestors[cardinality(who.ancestors)] = who.root
        AND who.entries >= 0
        AND who.pruned_seq BETWEEN 0 AND who.entries
        AND who.changes >= 0;
END $$;
COMMENT ON FUNCTION earmark._private_subject_is_sound IS 'What the table of subjects refuses to be otherwise';

CREATE FUNCTION earmark._private_image_is_sound(image earmark._private_image)
RETURNS boolean LANGUAGE plpgsql IMMUTABLE SET search_path = earmark, pg_temp AS $$
BEGIN
    RETURN image.size > 0
        AND image.attempt >= 0
        AND image.state IN ('reserved', 'uploading', 'uploaded', 'processing', 'completed', 'failed', 'rejected', 'cancelled', 'expired',
            'deleted')
        AND (image.state IN ('reserved', 'uploading', 'uploaded', 'processing')) = (image.due_at IS NOT NULL);
END $$;
COMMENT ON FUNCTION earmark._private_image_is_sound IS 'What the table of images refuses to be otherwise';

ALTER TABLE earmark._private_hold
    DROP CONSTRAINT _private_hold_level_check,
    DROP CONSTRAINT _private_hold_amount_check,
    DROP CONSTRAINT _private_hold_state_check,
    DROP CONSTRAINT _private_hold_cause_check,
    DROP CONSTRAINT _private_hold_check,
    DROP CONSTRAINT _private_hold_check1,
    DROP CONSTRAINT _private_hold_check2,
    DROP CONSTRAINT _private_hold_check3,
    DROP CONSTRAINT _private_hold_check4,
    ADD CONSTRAINT sound CHECK (earmark._private_hold_is_sound(_private_hold));
ALTER TABLE earmark._private_subject
    DROP CONSTRAINT _private_subject_subject_check,
    DROP CONSTRAINT _private_subject_check,
    DROP CONSTRAINT _private_subject_check1,
    DROP CONSTRAINT _private_subject_entries_check,
    DROP CONSTRAINT _private_subject_changes_check,
    ADD CONSTRAINT sound CHECK (earmark._private_subject_is_sound(_private_subject));
ALTER TABLE earmark._private_image
    DROP CONSTRAINT _private_image_size_check,
    DROP CONSTRAINT _private_image_attempt_check,
    DROP CONSTRAINT _private_image_state_check,
    DROP CONSTRAINT _private_image_check,
    ADD CONSTRAINT sound CHECK (earmark._private_image_is_sound(_private_image));

DROP TRIGGER numbered_when_changed ON earmark._private_image;
CREATE OR REPLACE FUNCTION earmark._private_number_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = earmark, pg_temp AS $$
BEGIN
    IF TG_OP = 'INSERT' OR (OLD.state, OLD.attempt, OLD.cause, OLD.reason, OLD.content_type, OLD.metadata, OLD.outputs)
        IS DISTINCT FROM (NEW.state, NEW.attempt, NEW.cause, NEW.reason, NEW.content_type, NEW.metadata, NEW.outputs)
    THEN
        UPDATE _private_subject s SET changes = s.changes + 1
        WHERE (s.root, s.subject) = (NEW.root, NEW.subject) RETURNING s.changes INTO NEW.change;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER numbered_when_changed BEFORE UPDATE OF state, attempt, cause, reason, content_type, metadata, outputs ON earmark._private_image
    FOR EACH ROW EXECUTE FUNCTION earmark._private_number_change();
