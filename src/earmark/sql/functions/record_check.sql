CREATE OR REPLACE FUNCTION earmark.record_check(name text, findings bigint)
RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = earmark, pg_temp AS $$
BEGIN
    PERFORM _private_authorize(NULL);
    IF coalesce(record_check.name !~ '^[a-z][a-z_]{0,62}$' OR record_check.findings < 0, true) THEN
        PERFORM _private_raise('QT001', 'A check has a name of small letters, and findings from 0.', '{"field": "name"}');
    END IF;
    INSERT INTO _private_check AS c (name, findings, at) VALUES (record_check.name, record_check.findings, _private_now())
    ON CONFLICT ON CONSTRAINT _private_check_pkey DO UPDATE SET findings = excluded.findings, at = excluded.at;
END $$;
COMMENT ON FUNCTION earmark.record_check IS
'Notes what a check of the whole ledger, such as verify, has found, for health: how many findings, 0 when all is well, and when. Errors: QT001, QT005.';
