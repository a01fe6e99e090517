-- What deliveries of outside queues and processors were answered, so that the same one again is answered the same.

CREATE TABLE earmark._private_delivery (
    root text NOT NULL,
    image uuid NOT NULL,
    delivery text NOT NULL CHECK (length(delivery) BETWEEN 1 AND 500),
    answer jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (root, image, delivery)
);
CREATE INDEX _private_delivery_oldest ON earmark._private_delivery (created_at);
COMMENT ON COLUMN earmark._private_delivery.delivery IS 'The sender''s id of it: a redelivery has the same one';
