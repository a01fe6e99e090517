CREATE OR REPLACE FUNCTION earmark._private_expire_each(overdue jsonb, moment timestamptz)
RETURNS jsonb LANGUAGE plpgsql VOLATILE SET search_path = earmark, pg_temp AS $$
DECLARE
    one jsonb;
    done jsonb := '[]';
BEGIN
    FOR one IN
        SELECT _private_expiry((o->>'reservation')::uuid, ARRAY[item])
        FROM jsonb_array_elements(overdue) o CROSS JOIN LATERAL jsonb_array_elements_text(o->'items') item
    LOOP
        BEGIN
            PERFORM _private_settle(jsonb_build_array(one), 'rolled_back', moment);
            done := done || one;
        EXCEPTION WHEN integrity_constraint_violation OR data_exception THEN
            RAISE WARNING 'overdue item % of reservation % of % is set aside for an hour: %', one->'items'->>0, one->>'reservation',
                (SELECT r.subject FROM _private_reservation r WHERE r.reservation = (one->>'reservation')::uuid), SQLERRM;
            UPDATE _private_hold h SET expires_at = moment + interval '1 hour'
            FROM _private_settle_targets(jsonb_build_array(one)) t
            WHERE (h.root, h.reservation, h.item, h.resource, h.subject) = (t.root, t.reservation, t.item, t.resource, t.subject);
        END;
    END LOOP;
    RETURN done;
END $$;
COMMENT ON FUNCTION earmark._private_expire_each IS
    'Rolls overdue items back one by one, setting aside, with a warning, those whose books do not allow it; returns the requests of the others.';
