CREATE OR REPLACE FUNCTION earmark._private_record_configuration(subject text, plan text, actor text, was jsonb, became jsonb)
RETURNS void LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
BEGIN
    INSERT INTO _private_configuration (at, actor, subject, plan, what, was, became)
    SELECT _private_now(),
        coalesce(nullif(_private_record_configuration.actor, ''), (_private_caller()).subject, nullif(current_setting('role'), 'none'), session_user),
        _private_record_configuration.subject, _private_record_configuration.plan, key, coalesce(w.value, 'null'), coalesce(b.value, 'null')
    FROM jsonb_each(_private_record_configuration.was) w
    FULL JOIN jsonb_each(_private_record_configuration.became) b USING (key)
    WHERE _private_record_configuration.was IS NOT NULL AND coalesce(w.value, 'null') <> coalesce(b.value, 'null')
    ORDER BY key;
END $$;
COMMENT ON FUNCTION earmark._private_record_configuration IS
    'Keeps each value that differs; nothing where was is NULL. Who says no actor is known by his claims, or by his role in the database.';
