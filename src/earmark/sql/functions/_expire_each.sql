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
        EXCEPTION WHEN OTHERS THEN
            IF NOT _private_is_about_a_row(SQLSTATE) THEN
                RAISE;
            END IF;
            PERFORM _private_put_aside(one, format('%s: %s', SQLSTATE, SQLERRM), moment);
        END;
    END LOOP;
    RETURN done;
END $$;
COMMENT ON FUNCTION earmark._private_expire_each IS
    'Rolls overdue items back one by one, setting aside those that cannot be; returns the requests of the others.';
