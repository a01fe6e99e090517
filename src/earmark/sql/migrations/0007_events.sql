-- What a subject's followers compare: one number that grows with every change of his images or settings, and on each
-- image the number of its latest change. Both are written under his row's lock, so they are in the order of commits.

ALTER TABLE earmark._private_subject ADD COLUMN changes bigint NOT NULL DEFAULT 0 CHECK (changes >= 0);
COMMENT ON COLUMN earmark._private_subject.changes IS 'Changes of his images, plan and quotas so far; the journal has its own number, entries';
ALTER TABLE earmark._private_image ADD COLUMN change bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN earmark._private_image.change IS 'Which of its subject''s changes was the latest that its owner can see';
CREATE INDEX _private_image_changed ON earmark._private_image (root, subject, change);

CREATE FUNCTION earmark._private_number_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = earmark, pg_temp AS $$
BEGIN
    UPDATE _private_subject s SET changes = s.changes + 1
    WHERE (s.root, s.subject) = (NEW.root, NEW.subject) RETURNING s.changes INTO NEW.change;
    RETURN NEW;
END $$;
COMMENT ON FUNCTION earmark._private_number_change IS 'Gives an image that was changed its subject''s next number';
CREATE TRIGGER numbered_when_new BEFORE INSERT ON earmark._private_image
    FOR EACH ROW EXECUTE FUNCTION earmark._private_number_change();
CREATE TRIGGER numbered_when_changed BEFORE UPDATE ON earmark._private_image
    FOR EACH ROW WHEN ((OLD.state, OLD.attempt, OLD.cause, OLD.reason, OLD.content_type, OLD.metadata, OLD.outputs)
        IS DISTINCT FROM (NEW.state, NEW.attempt, NEW.cause, NEW.reason, NEW.content_type, NEW.metadata, NEW.outputs))
    EXECUTE FUNCTION earmark._private_number_change();
