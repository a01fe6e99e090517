-- What calls over HTTP were answered under their idempotency keys, where the ledger's own keys do not do that already.

CREATE TABLE earmark._private_answer (
    root text NOT NULL,
    subject text NOT NULL,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    request jsonb NOT NULL,
    answer jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (root, subject, key)
);
CREATE INDEX _private_answer_age ON earmark._private_answer (created_at);
COMMENT ON TABLE earmark._private_answer IS 'What was answered under each key, written in the transaction that did what was asked';
COMMENT ON COLUMN earmark._private_answer.request IS 'What was asked for under the key: a second request under it must equal it';
