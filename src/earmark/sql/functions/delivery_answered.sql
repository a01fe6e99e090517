CREATE OR REPLACE FUNCTION earmark.delivery_answered(image uuid, delivery text, answer jsonb)
RETURNS jsonb LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    found _private_image := _private_lock_image(delivery_answered.image, NULL);
BEGIN
    PERFORM _private_authorize(NULL);
    IF found.image IS NOT NULL THEN
        INSERT INTO _private_delivery (root, image, delivery, answer, created_at)
        VALUES (found.root, found.image, delivery_answered.delivery, delivery_answered.answer, _private_now())
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN coalesce((SELECT d.answer FROM _private_delivery d
        WHERE (d.root, d.image, d.delivery) = (found.root, found.image, delivery_answered.delivery)), delivery_answered.answer);
END $$;
COMMENT ON FUNCTION earmark.delivery_answered IS
'Remembers what a delivery was answered, in the transaction of its effect; the first answer stands, and is returned. Errors: QT005.';
