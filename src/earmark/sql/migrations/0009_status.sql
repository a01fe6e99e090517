-- What an operator is shown of the background's work. Neither table decides anything about quota.

COMMENT ON COLUMN earmark._private_image.remove_objects_at IS
    'When its objects are to be removed from the store: at once when it was not accepted, and again after its upload URL has expired;
of a completed image only what earlier attempts may have left there';

CREATE TABLE earmark._private_failed_rollback (
    root text NOT NULL,
    target uuid NOT NULL,
    subject text NOT NULL,
    cause text NOT NULL,
    attempts int NOT NULL CHECK (attempts >= 1),
    error text NOT NULL,
    outcome text,
    failed_at timestamptz NOT NULL,
    noted_at timestamptz NOT NULL,
    PRIMARY KEY (root, target)
);
COMMENT ON TABLE earmark._private_failed_rollback IS
    'Rollbacks that could not be carried out at once because the database did not answer, noted when it did again';
COMMENT ON COLUMN earmark._private_failed_rollback.outcome IS 'How it ended; NULL while it has not';

CREATE TABLE earmark._private_duty (
    duty text PRIMARY KEY CHECK (length(duty) BETWEEN 1 AND 100),
    ran_at timestamptz,
    failed_at timestamptz,
    error text
);
COMMENT ON TABLE earmark._private_duty IS 'When each background duty was last done and last failed, by any worker of this database';
