-- A sweep gives back no hold that became overdue after it began to look at the evidence, and looks at all of it.
DROP FUNCTION IF EXISTS earmark.expire(int, timestamptz);
DROP FUNCTION IF EXISTS earmark.images_due(int);
