-- Who changed a subject's plan, his own quotas, anchor or parent, or a plan itself, and when.
CREATE TABLE earmark._private_configuration (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    subject text,
    plan text,
    what text NOT NULL,
    was jsonb NOT NULL,
    became jsonb NOT NULL,
    CONSTRAINT about_one CHECK (num_nonnulls(subject, plan) = 1),
    CONSTRAINT changed CHECK (was <> became)
);
CREATE INDEX _private_configuration_subject ON earmark._private_configuration (subject, number) WHERE subject IS NOT NULL;
CREATE INDEX _private_configuration_plan ON earmark._private_configuration (plan, number) WHERE plan IS NOT NULL;
COMMENT ON TABLE earmark._private_configuration IS 'What was configured, one row for each value that changed; of a subject, or of a plan itself. Kept for good: it is rare';
COMMENT ON COLUMN earmark._private_configuration.what IS
    'plan, parent, anchor or quotas.RESOURCE of a subject; quotas.RESOURCE, periods.RESOURCE, refundable.RESOURCE or features.NAME of a plan';
COMMENT ON COLUMN earmark._private_configuration.became IS
    'As was: a quota of -1 is unlimited; null is nothing, so of a subject''s own quota the plan''s';
DROP FUNCTION IF EXISTS earmark.configure_subject(text, text, jsonb, timestamptz, text);
DROP FUNCTION IF EXISTS earmark.configure_plan(text, jsonb, jsonb);
