-- What a shutdown interrupts is no failed attempt; a plan that is changed tells all who have it.

ALTER TABLE earmark._private_image ADD COLUMN interrupted int NOT NULL DEFAULT 0;
COMMENT ON COLUMN earmark._private_image.interrupted IS 'How many of its attempts ended because their worker was shut down or the store was away; they do not count as tries';
DROP FUNCTION IF EXISTS earmark.image_wait(uuid, int, text, float8, float8, boolean);

ALTER TABLE earmark._private_plan ADD COLUMN changes bigint NOT NULL DEFAULT 0 CHECK (changes >= 0);
COMMENT ON COLUMN earmark._private_plan.changes IS 'Changes of its features and quotas so far: one row to tell all who have it';
DROP FUNCTION IF EXISTS earmark.positions(text[]);
