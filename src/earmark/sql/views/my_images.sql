-- The barrier holds only around a subquery of its own: PostgreSQL takes a bare UNION ALL apart, and the barrier with it.
CREATE OR REPLACE VIEW earmark.my_images WITH (security_barrier) AS
SELECT * FROM (
    SELECT s.subject, i.image, i.reservation, i.item, i.filename, i.content_type, i.size, i.state, i.attempt, i.cause, i.reason, i.metadata,
        i.created_at, i.updated_at, i.due_at, i.upload_expires_at
    FROM earmark.caller() c
    JOIN earmark._private_subject s ON s.subject = c.subject
    JOIN earmark._private_image i ON (i.root, i.subject) = (s.root, s.subject)
    WHERE NOT c.service AND i.state <> 'deleted'
    UNION ALL
    SELECT s.subject, i.image, i.reservation, i.item, i.filename, i.content_type, i.size, i.state, i.attempt, i.cause, i.reason, i.metadata,
        i.created_at, i.updated_at, i.due_at, i.upload_expires_at
    FROM earmark._private_subject s
    JOIN earmark._private_image i ON (i.root, i.subject) = (s.root, s.subject)
    WHERE i.state <> 'deleted' AND (SELECT c.service FROM earmark.caller() c)
) reached;
COMMENT ON VIEW earmark.my_images IS 'The caller''s own images, deleted ones left out; for a service, everybody''s. Ids ascend with time.';
