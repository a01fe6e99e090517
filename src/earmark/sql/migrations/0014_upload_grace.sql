-- An upload that began before its URL ended is waited for; what was answered under a key does not depend on settings;
-- what was found of an image before it is handed over is kept.

DROP FUNCTION IF EXISTS earmark.images_reserve(text, jsonb, float8, float8, text, text);
DROP FUNCTION IF EXISTS earmark.image_hand_over(uuid, int, float8, float8);
