CREATE OR REPLACE FUNCTION earmark.record_failed_rollback(
    target uuid, cause text, attempts int, error text, failed_at timestamptz, outcome text DEFAULT NULL
) RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
#variable_conflict use_column
DECLARE
    moment timestamptz := _private_now();
BEGIN
    PERFORM _private_authorize(NULL);
    PERFORM _private_check_cause(record_failed_rollback.cause);
    DELETE FROM _private_failed_rollback f WHERE f.noted_at < moment - interval '30 days';
    INSERT INTO _private_failed_rollback AS f (root, target, subject, cause, attempts, error, outcome, failed_at, noted_at)
    SELECT o.root, record_failed_rollback.target, o.subject, record_failed_rollback.cause, record_failed_rollback.attempts,
        record_failed_rollback.error, record_failed_rollback.outcome, record_failed_rollback.failed_at, moment
    FROM (
        SELECT i.root, i.subject FROM _private_image i WHERE i.image = record_failed_rollback.target
        UNION ALL
        SELECT p.root, p.subject FROM _private_reservation p WHERE p.reservation = record_failed_rollback.target
    ) o
    ON CONFLICT (root, target) DO UPDATE
    SET attempts = excluded.attempts, error = excluded.error, outcome = excluded.outcome, noted_at = moment;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION earmark.record_failed_rollback IS
'Notes that the rollback of an image or a reservation failed so many times since failed_at, for status: the last error and, once it has ended, its outcome.
Kept for 30 days. False where the database knows no such target. Errors: QT001, QT005.';
