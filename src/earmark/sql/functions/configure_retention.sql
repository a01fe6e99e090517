CREATE OR REPLACE FUNCTION earmark.configure_retention(reservations interval, journal interval)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
BEGIN
    PERFORM _private_authorize(NULL);
    IF least(reservations, journal) <= interval '0' OR greatest(reservations, journal) > interval '1000 years' THEN
        PERFORM _private_raise('QT001', 'A retention is a time above zero, at most 1000 years, or NULL: kept for good.', '{"field": "retention"}');
    END IF;
    DELETE FROM _private_setting WHERE name IN ('reservation_retention', 'journal_retention');
    INSERT INTO _private_setting (name, value)
    SELECT name, value::text
    FROM (VALUES ('reservation_retention', reservations), ('journal_retention', journal)) kept (name, value)
    WHERE value IS NOT NULL;
END $$;
COMMENT ON FUNCTION earmark.configure_retention IS
'Sets how long settled reservations, with the outcomes under their keys, and the journal are kept before prune_settled and prune_journal
remove them; NULL: for good. Until set, reservations are kept for 90 days and the journal for good. Errors: QT001, QT005.';
