CREATE OR REPLACE FUNCTION earmark._private_follow_holds() RETURNS trigger
LANGUAGE plpgsql SET search_path = earmark, pg_temp AS $$
BEGIN
    UPDATE _private_image i
    SET state = CASE coalesce(NEW.cause, NEW.state) WHEN 'refunded' THEN 'deleted' WHEN 'validation_failed' THEN 'rejected'
            WHEN 'expired' THEN 'expired' WHEN 'upload_failed' THEN 'failed' WHEN 'processing_failed' THEN 'failed' ELSE 'cancelled' END,
        cause = NEW.cause, due_at = NULL, updated_at = NEW.settled_at,
        remove_objects_at = NEW.settled_at
            + CASE WHEN NEW.cause = 'expired' AND i.state = 'processing' THEN interval '1 hour' ELSE interval '0' END
    WHERE (i.root, i.reservation, i.item) = (NEW.root, NEW.reservation, NEW.item)
        AND (i.due_at IS NOT NULL OR (NEW.state = 'refunded' AND i.state = 'completed'));
    RETURN NULL;
END $$;
COMMENT ON FUNCTION earmark._private_follow_holds IS
'An open image whose hold was rolled back, or a completed one whose use was refunded, by whatever call, ends in the same transaction.
What expired while it was processed keeps its objects for an hour: a success that comes by then may still count.';
